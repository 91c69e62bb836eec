"""An estimator is served in the form and the dtypes that it was fitted on, and without the columns that it drops."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import VotingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder, StandardScaler

from headrace import NotExportable, export
from headrace.data.rows import Layout, estimator_input
from headrace.exporting.exported import Exported
from headrace.models.store import ModelStore
from tests.support.puppet import as_text
from worker.model.allow_list import AllowList
from worker.model.predictor import Predictor
from worker.model.rows import row_converter

OURS = AllowList(modules=frozenset(["tests"]))


class ByName(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that finds columns by name, and knows of scikit-learn's attributes `n_features_in_` only."""

    def fit(self, frame: Any, targets: Any) -> "ByName":
        self.classes_ = np.unique(targets)
        self.n_features_in_ = frame.shape[1]
        return self

    def predict(self, frame: Any) -> Any:
        return self.classes_[(frame["b"] > frame["a"]).to_numpy().astype(int)]


class ByPosition(ByName):
    """A classifier that takes arrays of the dtype that it was fitted on only."""

    def fit(self, rows: Any, targets: Any) -> "ByPosition":
        super().fit(rows, targets)
        self.dtype = np.asarray(rows).dtype
        return self

    def predict(self, rows: Any) -> Any:
        if rows.dtype != self.dtype:
            raise ValueError(f"Buffer dtype mismatch, expected {self.dtype}")
        return self.classes_[(rows[:, 1] > rows[:, 0]).astype(int)]


NUMBERS = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 5, "b": [1.0, 0.0, 3.0, 2.0] * 5})
SAYS = np.array(["up", "down"] * 10)


def exported(tmp_path: Path, estimator: Any, rows: Any, **options: Any) -> tuple[Exported, Predictor]:
    store = ModelStore(tmp_path)
    made = export(estimator, rows, name="m", store=store, extra_modules=["tests"], **options)
    return made, Predictor.load(store, made.manifest, OURS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clusters_of_an_array_keep_its_dtype(tmp_path: Path, dtype: str) -> None:
    rows = NUMBERS.to_numpy().astype(dtype)
    estimator = KMeans(2, n_init=1, random_state=0).fit(rows)

    made, predictor = exported(tmp_path, estimator, rows)

    assert made.manifest.input == "array"
    assert {each.dtype for each in made.manifest.features} == {dtype}
    assert predictor.predict(rows.astype(float).tolist()).predictions == estimator.predict(rows).tolist()


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16", "float32", "bool", ">f4"])
def test_an_array_reaches_the_estimator_in_its_dtype(tmp_path: Path, dtype: str) -> None:
    rows = (NUMBERS.to_numpy() % 2).astype(dtype)
    estimator = ByPosition().fit(rows.astype(np.dtype(dtype).newbyteorder("=")), SAYS)

    made, predictor = exported(tmp_path, estimator, rows)

    assert made.manifest.features[0].dtype == np.dtype(dtype).newbyteorder("=").name
    packed = np.asarray([[0.0, 1.0], [1.0, 0.0]])
    assert predictor.predict(packed).predictions == predictor.predict(packed.tolist()).predictions
    layout = Layout.of(made.manifest)
    for sent in ([[0.0, 1.0]], [[0.5, 1.0]], [[300.0, 0.0]]):
        np.testing.assert_array_equal(row_converter(made.manifest)(sent), estimator_input(sent, layout), strict=True)
    if np.dtype(dtype).kind in "iub":
        mixed = predictor.predict([[0.0, 1.0], [0.5, 1.0], [1.0, 0.0]])
        assert (mixed.predictions[::2], list(mixed.failures)) == (["up", "down"], [1])


def test_an_estimator_that_takes_frames_only_gets_a_frame(tmp_path: Path) -> None:
    made, predictor = exported(tmp_path, ByName().fit(NUMBERS, SAYS), NUMBERS)

    assert made.manifest.input == "frame"
    assert predictor.predict([[1.0, 2.0], [2.0, 1.0]]).predictions == ["up", "down"]


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_an_estimator_that_takes_arrays_only_gets_an_array_of_the_frames_dtype(tmp_path: Path, dtype: str) -> None:
    frame = NUMBERS.astype(dtype)

    made, predictor = exported(tmp_path, ByPosition().fit(frame, SAYS), frame)

    assert (made.manifest.input, made.manifest.features[0].dtype) == ("array", dtype)
    assert [each.name for each in made.manifest.features] == ["a", "b"]
    assert predictor.predict([[1.0, 2.0]]).predictions == ["up"]


def test_the_form_of_the_fit_goes_before_the_form_of_the_export(tmp_path: Path) -> None:
    array, frame = NUMBERS.to_numpy(), NUMBERS
    on_array, on_frame = LogisticRegression().fit(array, SAYS), LogisticRegression().fit(frame, SAYS)

    forms = [
        exported(tmp_path / str(at), estimator, rows)[0].manifest.input
        for at, (estimator, rows) in enumerate([(on_array, frame), (on_array, array), (on_frame, array)])
    ]

    assert forms == ["array", "array", "frame"]


def test_the_reasons_are_told_where_neither_form_can_be_predicted(tmp_path: Path) -> None:
    estimator = ByPosition().fit(NUMBERS.astype("float32"), SAYS)

    with pytest.raises(NotExportable, match=r"from a data frame, .*; from an array, .*expected float32"):
        exported(tmp_path, estimator, NUMBERS)


@pytest.mark.parametrize("dtype", ["Int64", "UInt8", "Float32", "Float64", "int8"])
def test_a_column_keeps_the_dtype_that_its_text_shows(tmp_path: Path, dtype: str) -> None:
    values = [1, 2, 3, 4] * 5 if dtype == "int8" else [1, 2, None, 4] * 5
    frame = pd.DataFrame({"code": pd.array(values, dtype=dtype), "b": NUMBERS["b"]})
    texts = make_pipeline(FunctionTransformer(as_text), OneHotEncoder(handle_unknown="ignore"), LogisticRegression())

    made, predictor = exported(tmp_path, texts.fit(frame, SAYS), frame)

    assert made.manifest.features[0].dtype == dtype
    sent = [[1.0, 1.0], [2.0, 0.0], [None, 3.0] if dtype != "int8" else [3.0, 3.0], [4.0, 2.0]]
    assert predictor.predict(sent).predictions == texts.predict(frame[:4]).tolist()
    layout = Layout.of(made.manifest)
    for rows in (sent[:1], [sent[0], sent[2]], [[1.5, 1.0]], [[1e300, 0.0]]):
        pd.testing.assert_frame_equal(row_converter(made.manifest)(rows), estimator_input(rows, layout))
    beside = predictor.predict([*sent, [1.5, 1.0], [300.0, 1.0]]).predictions[:4]
    assert beside == predictor.predict(sent).predictions


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**62])
@pytest.mark.parametrize("kind", ["int64", "uint64", "Int64", "array"])
def test_whole_numbers_that_json_rounds_are_refused(tmp_path: Path, kind: str, value: int) -> None:
    if kind == "uint64" and value < 0:
        value = 2**63 + 1
    ids = np.array([1, 2, 3, value] * 5, dtype="uint64" if kind == "uint64" else "int64")
    rows: Any = pd.DataFrame({"a": [1, 2, 3, 4] * 5, "id": ids})
    rows = rows.to_numpy() if kind == "array" else rows.astype({"id": kind})
    estimator = LogisticRegression().fit(rows, SAYS)

    with pytest.raises(NotExportable, match=rf"column '{'x1' if kind == 'array' else 'id'}' .*2\*\*53.*astype\(str\)"):
        exported(tmp_path, estimator, rows)

    assert not (tmp_path / "m").exists()


def test_the_last_whole_number_that_json_holds_is_exported(tmp_path: Path) -> None:
    rows = pd.DataFrame({"id": [1, 2**53 - 1, 1 - 2**53, 7] * 5})

    made, _ = exported(tmp_path, LogisticRegression().fit(rows, SAYS), rows)

    assert made.manifest.features[0].maximum == 2.0**53 - 1


# --- columns that the estimator drops


def customers() -> Any:
    """A frame with two columns that say something, and three that don't."""
    return pd.DataFrame(
        {
            "customer": [f"c{at:03d}" for at in range(20)],
            "a": NUMBERS["a"],
            "since": pd.date_range("2026-01-01", periods=20),
            "b": NUMBERS["b"],
            "visits": [[at] for at in range(20)],
        }
    )


def a_and_b(frame: Any) -> Any:
    return frame[["a", "b"]]


def dropping(**options: Any) -> Any:
    columns = ColumnTransformer([("a", StandardScaler(), ["a"]), ("b", "passthrough", ["b"])], **options)
    return make_pipeline(columns, LogisticRegression())


DROPPING = {
    "remainder": lambda: dropping(),
    "by name": lambda: make_pipeline(
        ColumnTransformer([("no", "drop", ["since", "customer", "visits"])], remainder="passthrough"),
        LogisticRegression(),
    ),
    "by selector": lambda: make_pipeline(
        ColumnTransformer([("numbers", StandardScaler(), make_column_selector(dtype_include="number"))]),
        LogisticRegression(),
    ),
    "by slice and mask": lambda: make_pipeline(
        ColumnTransformer([("a", "passthrough", slice(1, 2)), ("b", "passthrough", [False] * 3 + [True, False])]),
        LogisticRegression(),
    ),
    "search": lambda: GridSearchCV(dropping(), {"logisticregression__C": [1.0]}, cv=2),
    "vote": lambda: VotingClassifier([("one", dropping()), ("two", dropping())], voting="soft"),
    "calibrated": lambda: CalibratedClassifierCV(dropping(), cv=2),
    "function": lambda: make_pipeline(FunctionTransformer(a_and_b), LogisticRegression()),
    "union": lambda: make_pipeline(FeatureUnion([("one", dropping()[:-1]), ("no", "drop")]), LogisticRegression()),
}


@pytest.mark.parametrize("kind", DROPPING)
def test_columns_that_the_estimator_drops_are_no_features(tmp_path: Path, kind: str) -> None:
    frame = customers()
    estimator = DROPPING[kind]().fit(frame, SAYS)

    made, predictor = exported(tmp_path, estimator, frame)

    assert [each.name for each in made.manifest.features] == ["a", "b"]
    assert [each.partition(":")[0] for each in made.notices] == ["customer", "since", "visits"]
    assert predictor.predict([[1.0, 2.0], [2.0, 1.0]]).predictions == ["up", "down"]
    assert '"c00' not in made.manifest.model_dump_json()
    assert "since: the estimator drops this column" in made._repr_html_()


def test_an_array_is_filled_where_the_estimator_expects_a_column_without_using_it(tmp_path: Path) -> None:
    rows = np.column_stack([NUMBERS["a"], np.arange(20.0), NUMBERS["b"], np.arange(20.0)]).astype("float32")
    columns = ColumnTransformer([("used", StandardScaler(), [0, 2])])
    estimator = make_pipeline(columns, LogisticRegression()).fit(rows, SAYS)

    made, predictor = exported(tmp_path, estimator, rows, feature_names=["a", "row", "b", "index"])

    assert [each.name for each in made.manifest.features] == ["a", "b"]
    assert [(each.position, each.value) for each in made.manifest.filled] == [(1, 0.0), (3, 0.0)]
    sent = [[1.0, 2.0], [2.0, 1.0]]
    assert predictor.predict(sent).predictions == ["up", "down"]
    assert predictor.predict(np.asarray(sent)).predictions == ["up", "down"]
    made_by_worker, made_by_sdk = row_converter(made.manifest)(sent), estimator_input(sent, Layout.of(made.manifest))
    np.testing.assert_array_equal(made_by_worker, made_by_sdk, strict=True)
    assert made_by_worker.tolist() == [[1.0, 0.0, 2.0, 0.0], [2.0, 0.0, 1.0, 0.0]]


def test_a_frame_is_filled_where_the_estimator_checks_its_columns(tmp_path: Path) -> None:
    up = (NUMBERS["b"] > NUMBERS["a"]) ^ (np.arange(20) == 7)
    frame = NUMBERS.assign(third=np.arange(20) % 3, b=up)
    estimator = make_pipeline(StandardScaler(), SelectKBest(k=1), LogisticRegression()).fit(frame, SAYS)

    made, predictor = exported(tmp_path, estimator, frame)

    assert [each.name for each in made.manifest.features] == ["b"]
    assert [(each.name, each.dtype) for each in made.manifest.filled] == [("a", "float64"), ("third", "int64")]
    assert predictor.predict([[True], [False]]).predictions == ["up", "down"]
    pd.testing.assert_frame_equal(
        row_converter(made.manifest)([[True]]), estimator_input([[True]], Layout.of(made.manifest))
    )


def test_a_column_that_may_have_an_effect_stays_a_feature(tmp_path: Path) -> None:
    mixing = make_pipeline(Normalizer(), SelectKBest(k=1), LogisticRegression())
    kept = [
        (LogisticRegression(), NUMBERS),
        (mixing, NUMBERS.assign(c=np.arange(20) % 7) + 1),
        (dropping(remainder="passthrough"), NUMBERS.assign(c=1.0)),
    ]
    for at, (estimator, frame) in enumerate(kept):
        made, _ = exported(tmp_path / str(at), estimator.fit(frame, SAYS), frame)
        assert [each.name for each in made.manifest.features] == list(frame.columns)
        assert (made.manifest.filled, made.notices) == ([], ())
