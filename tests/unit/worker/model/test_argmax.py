from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.unit.worker.conftest import Publish, fitted, rows_of
from worker.model.argmax import argmax_without_ties, classes_by_probability
from worker.model.predictor import Predictor
from worker.model.rows import row_converter

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
