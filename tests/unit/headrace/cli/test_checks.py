import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from headrace import export
from headrace.models.manifest import Manifest
from headrace.models.signing import sign
from headrace.models.store import ModelStore
from tests.support.estimators import people
from tests.support.puppet import Puppet
from tests.support.signing import public_file, signing_key
from tests.unit.headrace.cli.versions import add, damage, run
from tests.unit.headrace.models.test_manifest import document

Captured = pytest.CaptureFixture[str]


def test_intact_versions_are_said_to_be_intact(filled: ModelStore, capsys: Captured) -> None:
    assert run("verify") == 0

    output, errors = capsys.readouterr()
    assert output.splitlines() == [f"iris v{n} is intact and predicts 1 rows as at its export" for n in (1, 2, 3)]
    assert errors == ""


def test_an_empty_variable_means_the_default(
    filled: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("MODEL_LOAD_SECONDS", "WORKER_MEMORY_BUDGET_BYTES", "MODEL_PUBLIC_KEY", "TRUSTED_MODULES"):
        monkeypatch.setenv(variable, "")

    assert run("verify", "iris", "v1") == 0
    assert capsys.readouterr().err == ""


def test_a_store_without_models_is_not_said_to_be_intact(filled: ModelStore, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()

    assert run("verify", "--store", str(tmp_path / "empty")) == 1
    assert capsys.readouterr() == ("", f"headrace: there are no models in {tmp_path / 'empty'}\n")


def test_a_tampered_artifact_is_never_loaded(
    filled: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("it was loaded"))
    path = damage(filled, "v2", "model.pkl")

    assert run("verify", "iris", "production") == 1

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"headrace: {path}: its SHA-256 is not ") and errors.count("\n") == 1


def test_one_damaged_version_does_not_hide_the_others(filled: ModelStore, capsys: Captured) -> None:
    damage(filled, "v1", "manifest.json")
    damage(filled, "v2", "model.pkl")

    assert run("verify", "iris") == 1

    output, errors = capsys.readouterr()
    assert output == "iris v3 is intact and predicts 1 rows as at its export\n"
    assert errors.count("\n") == errors.count("headrace: ") == 2


def test_a_version_without_rows_is_checked_as_far_as_it_can_be(store: ModelStore, capsys: Captured) -> None:
    add(store, "v1", samples=[])

    assert run("verify") == 0
    assert capsys.readouterr() == ("iris v1 is intact and has no rows to predict\n", "")
    damage(store, "v1", "model.pkl")
    assert run("verify") == 1


def test_a_row_of_another_kind_than_its_feature_is_one_line(store: ModelStore, capsys: Captured) -> None:
    add(store, "v1", samples=[{"row": ["a text"], "prediction": "a", "probabilities": [0.5, 0.5]}])

    assert run("verify") == 1
    output, errors = capsys.readouterr()
    assert output == "" and errors.startswith("headrace: iris v1: its samples can't be predicted: ValueError: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "sample",
    [
        {"row": [1.5], "prediction": "b", "probabilities": [0.5, 0.5]},
        {"row": [1.5], "prediction": "a", "probabilities": [0.5, 0.51]},
    ],
)
def test_other_predictions_than_at_export_are_found(
    store: ModelStore, capsys: Captured, sample: dict[str, Any]
) -> None:
    add(store, "v1", samples=[sample])

    assert run("verify", "iris", "v1") == 1
    assert capsys.readouterr() == ("", "headrace: iris v1: sample 0 is not predicted as when it was exported\n")


def test_an_artifact_that_cannot_be_loaded_is_one_line(store: ModelStore, capsys: Captured) -> None:
    content = b"no pickle\n"

    def write(folder: Path) -> None:
        (folder / "model.pkl").write_bytes(content)
        artifact = {"file": "model.pkl", "format": "joblib", "size_bytes": len(content)}
        artifact["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({**document(), "artifact": artifact}))

    store.add("iris", "v1", write)

    assert run("verify") == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("headrace: iris v1: it can't be loaded: ") and errors.count("\n") == 1


def test_verify_takes_of_a_pickle_what_a_worker_takes(store: ModelStore, capsys: Captured) -> None:
    rows = np.array([[-1.0, 0.0], [1.0, 0.0]] * 3)
    export(Puppet().fit(rows, np.array(["low", "high"] * 3)), rows, name="p", store=store, extra_modules="tests")

    assert run("verify") == 1
    assert "it needs tests.support.puppet.Puppet, which is not trusted" in capsys.readouterr().err
    assert run("verify", "--trusted-modules", "tests") == 0


def test_verify_asks_for_signatures_where_there_are_keys(filled: ModelStore, capsys: Captured, tmp_path: Path) -> None:
    key, public = signing_key(tmp_path / "model.key")
    keys = str(public_file(tmp_path / "model.pub", public))
    sign(filled, "iris", "v2", key)

    assert run("verify", "iris", "v2", "--public-key", keys) == 0
    assert run("verify", "iris", "v1", "--public-key", keys) == 1
    assert "it is not signed" in capsys.readouterr().err


def test_verify_refuses_what_unpacks_to_too_much(filled: ModelStore, capsys: Captured) -> None:
    folder = Path(filled.location("iris", "v1"))
    joblib.dump(np.zeros(1_000_000), folder / "model.pkl", compress=("zlib", 1))
    content = (folder / "model.pkl").read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifact"].update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    (folder / "manifest.json").write_text(json.dumps(manifest))

    assert run("verify", "iris", "v1", "--memory-budget", "4000000") == 1
    assert "it unpacks to more than the 4,000,000 bytes that it may take" in capsys.readouterr().err
    assert run("verify", "iris", "v1", "--memory-budget", "1000") == 1
    assert "iris v1: it has more than 1,000 bytes" in capsys.readouterr().err


def test_a_version_that_takes_too_long_does_not_hold_up_the_others(
    filled: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: Any, manifest: Manifest, *__: Any) -> int:
        if manifest.version == "v2":
            time.sleep(600)
        return 1

    monkeypatch.setattr("headrace.exporting.verify.verify", slow)

    assert run("verify", "--timeout", "10") == 1

    output, errors = capsys.readouterr()
    assert output.splitlines() == [f"iris v{n} is intact and predicts 1 rows as at its export" for n in (1, 3)]
    assert errors == "headrace: iris v2: it takes longer than 10 s, and was ended (--timeout)\n"


def test_a_version_that_exits_is_not_said_to_be_intact(
    filled: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.exporting.verify.verify", lambda *_: sys.exit(0))

    assert run("verify", "iris", "v1") == 1
    assert capsys.readouterr() == ("", "headrace: iris v1: its process ended with exit code 0 and no answer\n")


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "1e9", "soon"])
def test_limits_that_are_none_are_refused(limit: str, filled: ModelStore, capsys: Captured) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("verify", "--timeout", limit)
    assert "argument --timeout: " in capsys.readouterr().err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A fitted pipeline of a frame, and beside it `rows.csv` with its training rows and targets."""
    frame, targets = people()
    estimator = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city", "plan"])), LogisticRegression()
    )
    frame[["city", "plan"]] = frame[["city", "plan"]].fillna("none")
    joblib.dump(estimator.fit(frame[["city", "plan"]], targets), tmp_path / "churn.joblib")
    frame.assign(outcome=targets).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "churn.joblib"


def test_an_estimator_that_can_be_exported_is_said_to_be(model: Path, store: ModelStore, capsys: Captured) -> None:
    rows = str(model.with_name("rows.csv"))

    assert run("export-check", str(model), "--rows", rows, "--target", "outcome") == 0

    output, errors = capsys.readouterr()
    assert output.startswith(f"{model} can be exported: Pipeline, 2 features, 1 outputs, ")
    assert errors == ""
    assert store.names() == []


def test_an_estimator_that_can_not_be_exported_is_told_why(
    model: Path, tmp_path: Path, store: ModelStore, capsys: Captured
) -> None:
    joblib.dump(StandardScaler().fit([[1.0], [2.0]]), tmp_path / "scaler.joblib")
    (tmp_path / "numbers.csv").write_text("x\n1.0\n2.0\n")

    assert run("export-check", str(tmp_path / "scaler.joblib"), "--rows", str(tmp_path / "numbers.csv")) == 1

    assert capsys.readouterr() == ("", "headrace: StandardScaler has no predict: it can't predict a new row\n")


@pytest.mark.parametrize("pipe", ["churn.joblib", "rows.csv"])
def test_a_file_that_does_not_end_is_one_line(
    pipe: str, model: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.with_name(pipe).unlink()
    os.mkfifo(model.with_name(pipe))
    (folder := model.with_name("scratch")).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    assert run("export-check", str(model), "--rows", str(model.with_name("rows.csv")), "--timeout", "0.5") == 1

    assert capsys.readouterr() == ("", f"headrace: {model}: it takes longer than 0.5 s, and was ended (--timeout)\n")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "rows", "options", "complaint"),
    [
        ("absent.joblib", "rows.csv", [], "absent.joblib: No such file or directory"),
        ("rows.csv", "rows.csv", [], "not readable: "),
        ("churn.joblib", "rows.json", [], "rows.json: rows are read from .csv and .parquet files"),
        ("churn.joblib", "rows", [], "rows: rows are read from .csv and .parquet files"),
        ("churn.joblib", "rows.csv", ["--target", "nothing"], "has no column 'nothing'; it has age, "),
    ],
)
def test_files_that_do_not_fit_are_one_line(
    model: Path, file: str, rows: str, options: list[str], complaint: str, capsys: Captured
) -> None:
    assert run("export-check", str(model.with_name(file)), "--rows", str(model.with_name(rows)), *options) == 1

    error = capsys.readouterr().err
    assert complaint in error
    assert error.startswith("headrace: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (5, "its attribute feature_names_in_ can't be used: it has the shape (), expected (n,)"),
        ([{}, {}], "its attribute feature_names_in_ can't be used: its names are not all texts"),
        (["x", "x"], "its attribute feature_names_in_ can't be used: some of its values repeat"),
        (["x", "y", "z"], "numbers.csv has no column 'z'"),
        (["x"], "its attribute feature_names_in_ can't be used: it has 1 names, and n_features_in_ is 2"),
    ],
)
def test_names_that_are_none_are_one_line(names: Any, complaint: str, tmp_path: Path, capsys: Captured) -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0] * 6, "y": 1.0})
    estimator = LogisticRegression().fit(frame, [1, 0] * 6)
    estimator.feature_names_in_ = names
    joblib.dump(estimator, tmp_path / "m")
    frame.to_csv(tmp_path / "numbers.csv", index=False)

    assert run("export-check", str(tmp_path / "m"), "--rows", str(tmp_path / "numbers.csv")) == 1
    output, errors = capsys.readouterr()
    assert output == "" and complaint in errors and errors.count("\n") == 1


def test_an_error_of_foreign_code_is_one_line_with_its_place(
    model: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.exporting.exporter.check_attributes", lambda _: 1 / 0)

    assert run("export-check", str(model), "--rows", str(model.with_name("rows.csv"))) == 1
    assert f"Pipeline can't be exported: ZeroDivisionError in {__file__}, line " in capsys.readouterr().err


def test_notices_of_the_export_are_printed(tmp_path: Path, capsys: Captured) -> None:
    frame = pd.DataFrame({"town": ["Bonn", "Kiel"] * 6})
    joblib.dump(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [1, 0] * 6), tmp_path / "m")
    frame.to_csv(tmp_path / "rows.csv", index=False)

    assert run("export-check", str(tmp_path / "m"), "--rows", str(tmp_path / "rows.csv")) == 0
    assert "\nnotice: town: the estimator raises for texts that it has not seen" in capsys.readouterr().out


def test_a_pipeline_of_texts_can_be_checked(tmp_path: Path, capsys: Captured) -> None:
    texts = ["good", "lovely", "bad", "dull"] * 3
    joblib.dump(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 1, 0, 0] * 3), tmp_path / "m")
    rows = tmp_path / "rows.CSV"
    rows.write_text("mood,review\n" + "".join(f"{i % 2},{text}\n" for i, text in enumerate(texts)))

    assert run("export-check", str(tmp_path / "m"), "--rows", str(rows), "--target", "mood") == 0
    assert "can be exported: Pipeline, 1 features" in capsys.readouterr().out
