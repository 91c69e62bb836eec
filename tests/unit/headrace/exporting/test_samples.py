"""Rows that an export makes public, and those that it keeps private."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from gateway.docs.model_schemas import row_examples
from headrace import NotExportable, export
from headrace.cli.main import main
from headrace.errors import ArtifactInvalid
from headrace.exporting.exported import Exported
from headrace.exporting.verify import verify
from headrace.models.golden import golden_rows
from headrace.models.store import ModelStore
from worker.model.predictor import Predictor

ROWS = 200


def customers() -> Any:
    """A frame in which every row could be told from the others: by id, income, name, e-mail address and note."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "customer": random.choice(np.arange(10_000_000, 99_999_999), ROWS, replace=False),
            "income": random.lognormal(10, 1, ROWS),
            "city": ["Oslo"] * 120 + ["Lyon"] * 78 + ["Longyearbyen"] * 2,
            "email": [f"person{i % 10}@example.org" for i in range(ROWS)],
            "name": [f"Ada Lovelace {i // 2}" for i in range(ROWS)],
            "note": [f"called about invoice {i}" for i in range(ROWS)],
            "adult": random.random(ROWS) < 0.8,
        }
    )


def fitted(frame: Any) -> Any:
    columns = make_column_transformer(
        (StandardScaler(), ["customer", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city", "email", "name", "adult"]),
        (TfidfVectorizer(), "note"),
    )
    return make_pipeline(columns, LogisticRegression()).fit(frame, np.where(frame["adult"], "yes", "no"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelStore, Exported]:
    frame, store = customers(), ModelStore(tmp_path_factory.mktemp("customers"))
    return store, export(fitted(frame), frame, frame["adult"].map({True: "yes", False: "no"}), name="c", store=store)


def public_texts(store: ModelStore, exported: Exported, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return all that people see of a version: what the gateway answers, the card, the notebook, `headrace show`."""
    manifest = exported.manifest
    capsys.readouterr()
    assert main(["show", "c", "--store", store.root]) == 0
    return {
        "GET /models/c": manifest.model_dump_json(exclude={"golden"}),
        "OpenAPI": json.dumps(row_examples(manifest)),
        "card": Path(exported.location, "card.html").read_text(),
        "notebook": exported._repr_html_(),
        "show": capsys.readouterr().out,
    }


def test_nothing_public_tells_of_one_training_row(
    published: tuple[ModelStore, Exported], capsys: pytest.CaptureFixture[str]
) -> None:
    store, exported = published
    frame = customers()
    secrets = [str(each) for each in frame["customer"]] + [repr(each) for each in frame["income"]]
    secrets += ["person", "Lovelace", "invoice", "Longyearbyen"]

    for where, text in public_texts(store, exported, capsys).items():
        assert not [secret for secret in secrets if secret in text], where
    public = exported.manifest.model_dump(include={"samples", "features"})
    assert not set(frame["customer"].astype(float)) & set(numbers(public))
    assert not set(frame["income"]) & set(numbers(public))


def numbers(value: Any) -> list[float]:
    """Return all numbers inside of a JSON value."""
    if isinstance(value, dict | list):
        return [each for inner in (value.values() if isinstance(value, dict) else value) for each in numbers(inner)]
    return [float(value)] if isinstance(value, int | float) else []


def test_made_up_rows_are_plausible(published: tuple[ModelStore, Exported]) -> None:
    manifest = published[1].manifest
    frame = customers()

    assert len(manifest.samples) == 5
    assert {sample.prediction for sample in manifest.samples} == {"yes", "no"}
    for sample in manifest.samples:
        row = dict(zip(frame.columns, sample.row, strict=True))
        assert float(row["customer"]).is_integer() and 1e7 <= row["customer"] <= 1e8
        assert frame["income"].min() * 0.9 <= row["income"] <= frame["income"].max() * 1.1
        assert row["city"] in ("Oslo", "Lyon")
        assert (row["email"], row["name"], row["note"]) == ("text", "text", "text")
        assert type(row["adult"]) is bool


def test_workers_check_training_rows_that_no_gateway_reads(
    published: tuple[ModelStore, Exported], tmp_path: Path
) -> None:
    store, exported = published
    golden = golden_rows(store, exported.manifest)
    frame = customers()

    assert {row.row[0] for row in golden} <= set(frame["customer"].astype(float))
    assert {row.prediction for row in golden} == {"yes", "no"}
    predictor = Predictor.load(store, exported.manifest)
    assert verify(store, exported.manifest) == len(golden) + len(exported.manifest.samples)
    assert golden[0] in predictor._checked_rows


@pytest.mark.parametrize("damage", ["changed", "absent", "other content"])
def test_altered_golden_rows_are_refused_without_being_shown(
    damage: str, store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    rows = np.array([[1234.5], [2345.5]] * 3)
    manifest = export(LogisticRegression().fit(rows, ["a", "b"] * 3), rows, name="m", store=store).manifest
    assert manifest.golden is not None
    path = Path(store.location("m", manifest.version), manifest.golden.file)
    if damage == "changed":
        path.write_bytes(path.read_bytes().replace(b"1234.5", b"9999.5"))
    elif damage == "absent":
        path.unlink()
    else:
        path.write_bytes(b"[]")

    for check in Predictor.load, verify:
        with pytest.raises(ArtifactInvalid, match=r"golden\.json: ") as refusal:
            check(store, manifest)
        assert "1234" not in str(refusal.value) + caplog.text


def test_a_worker_refuses_an_estimator_that_predicts_golden_rows_otherwise(store: ModelStore) -> None:
    rows = np.array([[0.0], [1.0]] * 3)
    manifests = [
        export(
            LogisticRegression().fit(rows, y), rows, name="m", version=v, store=store, samples="none", format="joblib"
        ).manifest
        for v, y in (("v1", ["a", "b"] * 3), ("v2", ["b", "a"] * 3))
    ]
    swapped = manifests[0].model_copy(update={"artifact": manifests[1].artifact})
    one, other = (Path(store.location("m", version), "model.pkl") for version in ("v1", "v2"))
    one.write_bytes(other.read_bytes())

    for check in Predictor.load, verify:
        with pytest.raises(ArtifactInvalid, match="sample 0 is not predicted as when it was exported"):
            check(store, swapped)


def test_a_version_may_show_no_rows(store: ModelStore) -> None:
    frame = customers()[["customer", "city", "adult"]].assign(extra=[None, 1.5] * (ROWS // 2))
    frame["extra"] = frame["extra"].astype(float)
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["city", "adult"]),
            (make_pipeline(SimpleImputer(), StandardScaler()), ["customer", "extra"]),
        ),
        LogisticRegression(),
    ).fit(frame, ["yes", "no"] * (ROWS // 2))

    exported = export(model, frame, name="c", store=store, samples="none")

    assert exported.manifest.samples == []
    example = row_examples(exported.manifest)["one row"]["request"]
    assert [type(each) for each in example.values()] == [float, str, bool, float]
    assert example["customer"].is_integer()
    assert json.dumps(example, ensure_ascii=False) in exported.curl_line()
    assert Predictor.load(store, exported.manifest).predict([list(example.values())]).failures == {}


@pytest.mark.parametrize("form", ["frame", "dictionaries", "lists"])
def test_a_caller_may_name_the_public_rows(form: str, store: ModelStore) -> None:
    frame = pd.DataFrame({"size": [1, 2, 3] * 4, "city": ["Oslo", "Lyon", None] * 4})
    columns = make_column_transformer((OneHotEncoder(), ["city"]), (FunctionTransformer(), ["size"]))
    model = make_pipeline(columns, LogisticRegression(C=1e6))
    model.fit(frame, ["a", "b", "a"] * 4)
    rows = pd.DataFrame({"city": ["Lyon", None], "size": [2, 3]})
    given = {
        "frame": rows,
        "dictionaries": rows.astype(object).where(rows.notna(), None).to_dict("records"),
        "lists": [[2, "Lyon"], [3, None]],
    }[form]

    manifest = export(model, frame, name="m", store=store, samples=given).manifest

    assert [(sample.row, sample.prediction) for sample in manifest.samples] == [
        ([2.0, "Lyon"], "b"),
        ([3.0, None], "a"),
    ]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("real", "samples is 'real': it is 'synthetic', 'none', or rows"),
        (None, "samples is None"),
        ([[1.0]], "can't be read as rows of 2 features"),
        ([[1.0, 2.0]] * 21, "21 rows; 1 to 20"),
        ([], "read as rows of 2 features"),
        ([["x", 2.0]], "column 'x0' holds a str, not a number"),
        ([[None, 2.0]], "column 'x0' was never missing"),
    ],
)
def test_public_rows_that_do_not_fit_are_refused(given: Any, complaint: str, store: ModelStore) -> None:
    rows = np.array([[0.0, 0.0], [1.0, 1.0]] * 4)

    with pytest.raises(NotExportable, match=complaint):
        export(LogisticRegression().fit(rows, ["a", "b"] * 4), rows, name="m", store=store, samples=given)

    assert not Path(store.root).exists()


def picky(rows: Any) -> Any:
    """Refuse rows that stood in no training row: their columns always agreed."""
    if not np.array_equal(rows[:, 0], rows[:, 1]):
        raise ValueError("they differ")
    return rows


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.25, 0.75)])
def test_made_up_rows_that_the_estimator_refuses_are_left_out(values: tuple[float, float], store: ModelStore) -> None:
    rows = np.array([[value, value] for value in values] * 10)
    model = make_pipeline(FunctionTransformer(picky), LogisticRegression()).fit(rows, ["a", "b"] * 10)

    def exported() -> Any:
        return export(model, rows, name="m", store=store, extra_modules=["tests"]).manifest

    if values == (0.0, 1.0):
        assert [sample.row for sample in exported().samples] == [[0.0, 0.0], [1.0, 1.0]]
    else:
        with pytest.warns(UserWarning, match="predicts none of the made-up rows"):
            assert exported().samples == []


@pytest.mark.parametrize(("dtype", "values"), [("int8", [-127, 127]), ("uint8", [1, 254]), ("int64", [1, 2**53 - 1])])
def test_a_rounded_range_holds_only_what_callers_can_send(dtype: str, values: list[int], store: ModelStore) -> None:
    rows = pd.DataFrame({"x": np.array(values * 10, dtype=dtype)})

    manifest = export(DummyClassifier().fit(rows, ["a", "b"] * 10), rows, name="m", store=store).manifest

    [feature] = manifest.features
    assert feature.minimum is not None and feature.maximum is not None
    assert feature.maximum <= min(np.iinfo(dtype).max, 2**53) and feature.minimum >= np.iinfo(dtype).min
    assert feature.minimum <= min(values) and max(values) <= feature.maximum
