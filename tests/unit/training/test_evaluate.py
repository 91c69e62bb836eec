import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.utils.validation import check_is_fitted

from training.dataset import Dataset
from training.evaluate import evaluate
from training.pipeline import build_estimator


def test_iris_is_told_apart_well(iris: Dataset) -> None:
    scores = evaluate(build_estimator(), iris)

    assert set(scores) == {"accuracy", "f1_macro", "log_loss"}
    assert 0.93 < scores["accuracy"] <= 1
    assert 0.93 < scores["f1_macro"] <= 1
    assert 0 < scores["log_loss"] < 0.25


def test_the_same_seed_gives_the_same_scores(iris: Dataset) -> None:
    assert evaluate(build_estimator(), iris, seed=1) == evaluate(build_estimator(), iris, seed=1)
    assert evaluate(build_estimator(), iris, seed=1) != evaluate(build_estimator(), iris, seed=2)


def test_an_estimator_without_probabilities_has_no_log_loss(iris: Dataset) -> None:
    assert set(evaluate(RidgeClassifier(), iris)) == {"accuracy", "f1_macro"}


def test_scoring_leaves_the_estimator_unfitted(iris: Dataset) -> None:
    estimator = build_estimator()

    evaluate(estimator, iris)

    with pytest.raises(ValueError, match="not fitted"):
        check_is_fitted(estimator)


class NeedsTheTallest(DummyClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """Can't be fitted on rows without the longest sepal, which one fold holds back."""

    def fit(self, rows: NDArray[np.float64], targets: NDArray[np.str_]) -> "NeedsTheTallest":
        if rows[:, 0].max() < 7.9:
            raise ValueError("the tallest is missing")
        super().fit(rows, targets)
        return self


def test_a_fold_that_fails_is_an_error_and_not_a_nan(iris: Dataset) -> None:
    with pytest.raises(ValueError, match="the tallest is missing"):
        evaluate(NeedsTheTallest(), iris)
