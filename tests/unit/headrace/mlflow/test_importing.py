import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from headrace.errors import MlflowUnusable, ModelError, NotExportable
from headrace.exporting.verify import verify
from headrace.mlflow.folders import local
from headrace.mlflow.importing import ImportRules, import_model, notices_of
from headrace.mlflow.mlmodel import COLUMNS_MAX
from headrace.models.manifest import Manifest
from headrace.models.signing import PublicKeys
from headrace.models.store import ModelStore
from tests.support.estimators import people
from tests.support.exported import fitted as case
from tests.support.mlflow_files import write_model
from tests.support.signing import signing_key

NETWORK_TYPES = ("sklearn.neural_network._stochastic_optimizers.AdamOptimizer",)

X = np.arange(40.0).reshape(20, 2)
Y = np.repeat(["a", "b"], 10)


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", LogisticRegression().fit(X, Y), X)


def imported(store: ModelStore, folder: Path, **rules: Any) -> Any:
    return import_model(local(folder), "it", store, "model", ImportRules(**rules), version="v1")


@pytest.mark.parametrize("serialization", ["skops", "pickle", "cloudpickle"])
@pytest.mark.parametrize("name", ["neural network", "boosting with gaps", "several numbers", "frame of numbers"])
def test_a_model_is_imported_with_its_input_example(
    models: ModelStore, tmp_path: Path, name: str, serialization: str
) -> None:
    each = case(name)
    rows = each.X if hasattr(each.X, "columns") else np.asarray(each.X)
    folder = write_model(tmp_path / "model", each.estimator, rows, serialization=serialization)
    trusted: tuple[str, ...] = NETWORK_TYPES if name == "neural network" else ()
    if name == "boosting with gaps" and serialization == "skops":
        with pytest.raises(MlflowUnusable, match="--trusted") as refused:
            imported(models, folder)
        trusted = tuple(str(refused.value).partition("holds ")[2].partition(", not in")[0].split(", "))

    exported = imported(models, folder, trusted=trusted)

    # Workers need no setting for it.
    manifest = exported.manifest
    assert verify(models, manifest) > 0
    assert len(manifest.samples) == 20
    assert manifest.training_rows is None, "an input example does not tell it"
    assert "of the input example, too few rows to notice drift" in notices_of(exported, ImportRules())[-1]


def test_types_and_gaps_come_from_signature_and_rows(models: ModelStore, tmp_path: Path) -> None:
    rows, _ = people()
    rows["plan"] = rows["plan"].astype(object)
    each = case("mixed frame")
    folder = write_model(tmp_path / "model", each.estimator, rows, serialization="pickle")
    data = tmp_path / "people.csv"
    rows.to_csv(data, index=False)

    exported = imported(models, folder, data=data)

    features = {feature.name: feature for feature in exported.manifest.features}
    assert features["age"].dtype == "int64"
    assert (features["income"].type, features["income"].nullable) == ("number", True)
    assert (features["city"].type, features["city"].nullable) == ("string", True)
    assert exported.manifest.training_rows == len(rows)
    assert not notices_of(exported, ImportRules(data=data))
    few = replace(exported, manifest=exported.manifest.model_copy(update={"training_rows": 99}))
    assert "of 99 rows, too few rows to notice drift" in notices_of(few, ImportRules(data=data))[0]


def test_a_target_is_no_feature(models: ModelStore, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("one,two,kind\n" + "".join(f"{a},{b},{y}\n" for (a, b), y in zip(X, Y, strict=True)))

    manifest = imported(models, folder, data=data, target="kind", samples="synthetic").manifest

    assert [feature.name for feature in manifest.features] == ["one", "two"]
    assert manifest.scores
    with pytest.raises(MlflowUnusable, match="no column 'other'"):
        imported(models, folder, data=data, target="other")


class Marks:
    """A pickle of it makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


def test_no_code_of_a_pickle_runs_unless_that_is_asked_for(models: ModelStore, tmp_path: Path) -> None:
    estimator = DummyClassifier().fit(X, Y)
    estimator.other_ = Marks(tmp_path / "ran")
    folder = write_model(tmp_path / "model", estimator, X, serialization="pickle")

    with pytest.raises(MlflowUnusable, match=r"any code while it is read.*--trust-pickle"):
        imported(models, folder)
    assert not (tmp_path / "ran").exists()
    assert not models.exists()

    imported(models, folder, trust_pickle=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sklearn_version": "1.2.2"}, "saved with scikit-learn 1.2.2"),
        ({"sklearn_version": None}, "does not name the file and the version"),
        ({"pickled_model": "../other/model.pkl"}, "no path inside the folder"),
        ({"pickled_model": "/etc/passwd"}, "no path inside the folder"),
        ({"serialization_format": "onnx"}, "serialization_format 'onnx' is not known"),
        ({"serialization_format": "pickle"}, "--trust-pickle"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_description_that_does_not_fit_is_refused(
    models: ModelStore, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = write_model(tmp_path / "model", LogisticRegression().fit(X, Y), X, **changes)

    with pytest.raises(MlflowUnusable, match=reason):
        imported(models, folder)
    assert not models.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "describes no model"),
        (b"\xff", "is no YAML"),
        (b"[" * 5000, "is no YAML"),
        (b"flavors: {keras: {}}", "its flavours are keras"),
        (b"!!python/object/apply:os.getcwd []", "describes no model"),
        (b"flavors: {a: &a {b: 1}, c: {<<: *a}}", "its flavours are a, c"),
        (b"flavors: {sklearn: &a [*a]}", "is no YAML"),
        (b"flavors: {sklearn: {[]: 1}}", "is no YAML"),
        (b"flavors: " + b"1:" * 300_000 + b"1", "its flavours are none"),
        (b"flavors: " + b"1:" * 300_000 + b"1.5", "its flavours are none"),
        (b"flavors: !!float " + b"1:" * 300_000 + b"1.5", "its flavours are none"),
        (b"flavors: !!int " + b"9" * 900_000, "its flavours are none"),
        (b"flavors: {sklearn: {pickled_model: ~, sklearn_version: null}}", "does not name the file and the version"),
        (b"a" * 1_000_001, "more than 1,000,000 bytes"),
    ],
    ids=range(14),
)
def test_a_damaged_description_is_refused(models: ModelStore, folder: Path, content: bytes, reason: str) -> None:
    (folder / "MLmodel").write_bytes(content)

    with pytest.raises(MlflowUnusable, match=reason):
        imported(models, folder)


@pytest.mark.parametrize("file", ["MLmodel", "input_example.json", "model.skops"])
def test_links_lead_to_nothing_outside_of_the_folder(models: ModelStore, folder: Path, file: str) -> None:
    place = folder / file
    place.rename(folder / "moved")
    place.symlink_to("moved")
    (folder.parent / "link").symlink_to(folder)
    imported(models, folder.parent / "link")

    (folder / "moved").rename(folder.parent / "moved")
    place.unlink()
    place.symlink_to("../moved")
    with pytest.raises(MlflowUnusable, match=f"{file}: it is a link that leads out"):
        imported(models, folder)
    place.unlink()
    place.symlink_to(file)
    with pytest.raises(ModelError):
        imported(models, folder)


def test_a_folder_that_is_a_link_to_elsewhere_is_not_followed(models: ModelStore, folder: Path) -> None:
    (folder.parent / "other").mkdir()
    (folder / "model.skops").rename(folder.parent / "other/model.skops")
    (folder / "inner").symlink_to("../other")
    description = yaml.safe_load((folder / "MLmodel").read_text())
    description["flavors"]["sklearn"]["pickled_model"] = "inner/model.skops"
    (folder / "MLmodel").write_text(yaml.safe_dump(description))

    with pytest.raises(MlflowUnusable, match="leads out"):
        imported(models, folder)


WIDE = [[0] * (COLUMNS_MAX + 1)]


@pytest.mark.parametrize(
    ("form", "rows", "reason"),
    [
        ("frame", [[10**400, 1.0], [0.0, 1.0]], "column 'a' is not of the signature's type"),
        ("frame", WIDE, "more than 60,000 columns"),
        ("array", WIDE, "more than 60,000 columns"),
    ],
    ids=["long integer", "wide frame", "wide array"],
)
def test_examples_of_any_size_are_refused(
    models: ModelStore, tmp_path: Path, form: str, rows: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame(X, columns=["a", "b"])
    folder = write_model(tmp_path / "model", LogisticRegression().fit(X, Y), frame if form == "frame" else X)
    columns = ["a", "b"] if rows is not WIDE else [*map(str, range(len(rows[0])))]
    example = {"columns": columns, "data": rows} if form == "frame" else rows
    (folder / "input_example.json").write_text(json.dumps(example))
    if rows is WIDE:
        # Before it takes memory.
        monkeypatch.delattr("pandas.DataFrame")

    with pytest.raises((MlflowUnusable, NotExportable), match=reason):
        imported(models, folder)


def test_what_is_imported_is_signed_before_anybody_sees_it(
    models: ModelStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, public = signing_key(tmp_path / "key.pem")
    seen: list[Manifest] = []

    def look(store: ModelStore, name: str, version: str, write: Any) -> None:
        add(store, name, version, write)
        seen.append(PublicKeys([public]).check(store, store.manifest(name, version)))

    add = ModelStore.add
    monkeypatch.setattr(ModelStore, "add", look)

    assert seen == [imported(models, folder, signing_key=key).manifest] or not seen
    assert seen
    with pytest.raises(ModelError, match="not a private key"):
        imported(models, folder, signing_key=folder / "MLmodel")


def test_a_model_without_rows_asks_for_them(models: ModelStore, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", LogisticRegression().fit(X, Y), X, example=False)

    with pytest.raises(MlflowUnusable, match="--data"):
        imported(models, folder)


def test_a_file_beyond_the_bound_is_not_read(models: ModelStore, folder: Path) -> None:
    with pytest.raises(MlflowUnusable, match="more than 100 bytes"):
        imported(models, folder, max_bytes=100)


def test_rows_of_other_columns_than_the_signature_are_refused(models: ModelStore, tmp_path: Path) -> None:
    each = case("frame of numbers")
    folder = write_model(tmp_path / "model", each.estimator, each.X)
    description = yaml.safe_load((folder / "MLmodel").read_text())
    data = tmp_path / "rows.csv"
    data.write_text("a,b\n1,2\n")

    with pytest.raises(MlflowUnusable, match="the rows have no column"):
        imported(models, folder, data=data)
    description["signature"]["inputs"] = "[{"
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
    with pytest.raises(MlflowUnusable, match="signature"):
        imported(models, folder)
