from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from headrace import export
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.exported import fitted
from tests.unit.worker.conftest import OURS, Publish, rows_of
from worker.model.predictor import Predictor
from worker.model.rows import row_converter
from worker.model.shortcuts import argmax_without_ties, array_converter, classes_by_probability

Exported = Callable[[str], tuple[ModelStore, Manifest]]

BY_PROBABILITY = [
    "logistic regression",
    "forest of integer classes",
    "forest of boolean classes",
    "boosting with gaps",
    "nearest neighbours",
    "naive bayes",
    "neural network",
    "frame of numbers",
    "mixed frame",
    "mixed frame by dtype",
    "prose",
]

BY_PREDICT = ["several classes of a forest", "vote", "calibrated svc", "linear svc", "ridge", "mixture"]


class Calls:
    """A count of the calls of an estimator's `predict`."""

    def __init__(self, estimator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        predict = estimator.predict

        def counting(rows: Any) -> Any:
            self.count += 1
            return predict(rows)

        monkeypatch.setattr(estimator, "predict", counting)


@pytest.mark.parametrize("case", BY_PROBABILITY)
def test_the_estimator_is_called_once(exported: Exported, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, manifest = exported(case)
    predictor = Predictor.load(store, manifest)
    rows = [row for row in rows_of(manifest) if _is_clear(predictor, row)]
    calls = Calls(predictor._estimator, monkeypatch)

    answer = predictor.predict(rows)

    assert rows
    assert calls.count == 0
    assert answer.predictions == predictor._estimator.predict(row_converter(manifest)(rows)).tolist()


def _is_clear(predictor: Predictor, row: list[Any]) -> bool:
    shares = predictor.predict([row]).probabilities
    assert shares is not None
    second, first = sorted(shares[0])[-2:]
    return bool(first - second > 1e-6)


@pytest.mark.parametrize("case", BY_PREDICT)
def test_others_are_asked_for_both(exported: Exported, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, manifest = exported(case)
    predictor = Predictor.load(store, manifest)
    calls = Calls(predictor._estimator, monkeypatch)

    predictor.predict(rows_of(manifest))

    assert calls.count == 1


def test_a_tie_is_broken_by_predict(store: ModelStore, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[0.0], [1.0], [3.0], [4.0]])
    estimator = KNeighborsClassifier(2).fit(rows, ["b", "a", "a", "b"])
    predictor = Predictor.load(store, publish("m", "v1", estimator, rows))
    calls = Calls(predictor._estimator, monkeypatch)

    answer = predictor.predict([[0.5], [2.0]])

    assert answer.probabilities == [[0.5, 0.5], [1.0, 0.0]]
    assert answer.predictions == estimator.predict([[0.5], [2.0]]).tolist()
    assert calls.count == 1
    predictor.predict([[2.0]])
    assert calls.count == 1


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([[0.2, 0.8], [0.9, 0.1]], [1, 0]),
        ([[0.5, 0.5]], None),
        ([[0.5 + 1e-12, 0.5 - 1e-12]], None),
        ([[0.5 + 1e-6, 0.5 - 1e-6]], [0]),
        ([[0.9, 0.1], [0.4, 0.2, 0.4][:2]], [0, 0]),
        ([[1.0]], [0]),
        ([[0.9, 0.1], [float("nan"), float("nan")], [0.5, 0.5]], None),
    ],
)
def test_the_greatest_of_each_row(probabilities: list[list[float]], expected: list[int] | None) -> None:
    found = argmax_without_ties(np.array(probabilities))

    assert (None if found is None else found.tolist()) == expected


class Contrary(LogisticRegression):  # type: ignore[misc]
    """A classifier that predicts the class of the least probability."""

    def predict(self, X: Any) -> Any:
        return self.classes_[self.predict_proba(X).argmin(axis=1)]


def classes_of(exported: Exported, estimator: Any) -> Any:
    _, manifest = exported("logistic regression")
    return classes_by_probability(manifest, estimator, row_converter(manifest), [s.row for s in manifest.samples])


def test_a_class_that_only_looks_like_one_of_them_is_asked_for_both(exported: Exported) -> None:
    X, y = _iris()
    assert classes_of(exported, LogisticRegression(max_iter=1000).fit(X, y)) is not None
    assert classes_of(exported, Contrary(max_iter=1000).fit(X, y)) is None
    # The made-up rows reveal it even under the name of an allowed class.
    in_disguise = type("LogisticRegression", (Contrary,), {"__module__": "sklearn.linear_model._logistic"})
    assert classes_of(exported, in_disguise(max_iter=1000).fit(X, y)) is None


def _iris() -> tuple[Any, Any]:
    case = fitted("logistic regression")
    return case.X, case.y


def test_classifiers_that_decide_otherwise_are_asked_for_both(exported: Exported) -> None:
    X, y = _iris()

    strict = FixedThresholdClassifier(LogisticRegression(max_iter=1000), threshold=0.9)
    assert classes_of(exported, strict.fit(X, y == "setosa")) is None
    assert classes_of(exported, SVC().fit(X, y)) is None


def test_made_up_rows_that_the_estimator_does_not_take_are_no_harm(exported: Exported) -> None:
    X, y = _iris()
    estimator = LogisticRegression(max_iter=1000).fit(X[:, :2], y)

    assert classes_of(exported, estimator) is None


def flowers(dtype: str = "float64") -> tuple[Any, Any]:
    """Return a frame of four columns of one dtype, and a target of text."""
    frame, target = datasets.load_iris(return_X_y=True, as_frame=True)
    return (10 * frame).round().astype(dtype), np.array(["setosa", "versicolor", "virginica"])[target]


def both(target: Any) -> Any:
    return np.column_stack([target, target == "setosa"]).astype(str)


BY_POSITION: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda X, y: LogisticRegression(max_iter=2000).fit(X, y),
    "numbers": lambda X, y: Ridge().fit(X, y == "setosa"),
    "pipeline": lambda X, y: make_pipeline(StandardScaler(), PCA(2), SVC()).fit(X, y),
    "columns by transformer output": lambda X, y: make_pipeline(
        StandardScaler().set_output(transform="pandas"), LogisticRegression()
    ).fit(X, y),
    "union": lambda X, y: make_pipeline(
        FeatureUnion([("one", StandardScaler()), ("two", PCA(2))]), LogisticRegression()
    ).fit(X, y),
    "forest": lambda X, y: RandomForestClassifier(5, random_state=0).fit(X, y),
    "boosting": lambda X, y: HistGradientBoostingClassifier(max_iter=3).fit(X, y),
    "neighbours": lambda X, y: KNeighborsClassifier().fit(X, y),
    "search": lambda X, y: GridSearchCV(LogisticRegression(max_iter=2000), {"C": [1.0, 2.0]}, cv=2).fit(X, y),
    "several outputs": lambda X, y: MultiOutputClassifier(RandomForestClassifier(3, random_state=0)).fit(X, both(y)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
@pytest.mark.parametrize("kind", BY_POSITION)
def test_an_estimator_of_a_frame_gets_arrays(store: ModelStore, kind: str, dtype: str) -> None:
    X, y = flowers(dtype)
    estimator = BY_POSITION[kind](X, y)
    manifest = export(estimator, X, name="m", store=store, scores={}).manifest

    predictor = Predictor.load(store, manifest)

    rows = X.to_numpy(dtype=np.float64)
    as_frame = row_converter(manifest)
    assert isinstance(as_frame(rows), pd.DataFrame)
    assert isinstance(predictor._convert(rows), np.ndarray)
    assert predictor._convert(rows).dtype == dtype
    answer = predictor.predict(rows)
    assert not answer.failures
    assert answer.predictions == estimator.predict(as_frame(rows)).tolist()
    if manifest.probabilities and len(manifest.outputs) == 1:
        assert answer.probability_rows() == estimator.predict_proba(as_frame(rows)).tolist()


def test_rows_that_the_dtype_of_the_columns_can_not_hold_are_predicted_as_of_a_frame(store: ModelStore) -> None:
    X, y = flowers("int64")
    predictor = Predictor.load(
        store, export(LogisticRegression(max_iter=2000).fit(X, y), X, name="m", store=store, scores={}).manifest
    )
    rows = [[51.0, 35.0, 14.0, 2.0], [51.5, 35.0, 14.0, 2.0], [60.0, 22.0, 50.0, 15.0]]

    answer = predictor.predict(rows)

    alone = [predictor._estimator.predict_proba(pd.DataFrame([row], columns=X.columns))[0].tolist() for row in rows]
    assert answer.probabilities == [pytest.approx(each, abs=1e-12) for each in alone]


class Means(BaseEstimator):  # type: ignore[misc]
    """A transformer that is not scikit-learn's."""

    def fit(self, X: Any, y: Any = None) -> "Means":
        self.columns_ = list(X.columns)
        return self

    def transform(self, X: Any) -> Any:
        return X[self.columns_[:2]].to_numpy()


BY_COLUMN_NAME: dict[str, Callable[[], Any]] = {
    "columns": lambda: ColumnTransformer([("all", StandardScaler(), ["petal width (cm)", "sepal width (cm)"])]),
    "columns within": lambda: FeatureUnion(
        [("all", make_pipeline(ColumnTransformer([("all", "passthrough", [0, 1])])))]
    ),
    "function": lambda: FunctionTransformer(np.sqrt),
    "a class of our own": lambda: Means(),
}


@pytest.mark.parametrize("kind", BY_COLUMN_NAME)
@pytest.mark.parametrize("form", ["pipeline", "vote"])
def test_what_may_go_by_names_gets_frames(store: ModelStore, kind: str, form: str) -> None:
    X, y = flowers()
    estimator = make_pipeline(BY_COLUMN_NAME[kind](), LogisticRegression(max_iter=2000))
    if form == "vote":
        estimator = VotingClassifier([("one", estimator)], voting="soft")
    estimator.fit(X, y)
    manifest = export(estimator, X, name="m", store=store, scores={}, extra_modules=["tests"]).manifest

    predictor = Predictor.load(store, manifest, OURS)

    assert isinstance(predictor._convert([[51.0, 35.0, 14.0, 2.0][: len(manifest.features)]]), pd.DataFrame)


class ByForm(LogisticRegression):  # type: ignore[misc]
    """A classifier that sees whether it gets a frame."""

    def predict_proba(self, X: Any) -> Any:
        shares = super().predict_proba(X)
        return shares if isinstance(X, pd.DataFrame) else shares * (1 - 1e-15)


def test_an_estimator_that_answers_otherwise_for_arrays_gets_frames(store: ModelStore) -> None:
    X, y = flowers()
    manifest = export(LogisticRegression(max_iter=2000).fit(X, y), X, name="m", store=store, scores={}).manifest
    samples = [sample.row for sample in manifest.samples]
    in_disguise = type("LogisticRegression", (ByForm,), {"__module__": "sklearn.linear_model._logistic"})

    def found(estimator: Any) -> Any:
        return array_converter(manifest, estimator.fit(X, y), row_converter(manifest), samples)

    assert found(LogisticRegression(max_iter=2000)) is not None
    assert found(in_disguise(max_iter=2000)) is None
    assert found(ByForm(max_iter=2000)) is None
    without_a_parameter = LogisticRegression(max_iter=2000).fit(X, y)
    del without_a_parameter.C
    assert array_converter(manifest, without_a_parameter, row_converter(manifest), samples) is None
    # Without a row to try it on, nothing is known.
    assert array_converter(manifest, LogisticRegression(max_iter=2000).fit(X, y), row_converter(manifest), []) is None
