import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.utils.validation import check_is_fitted

from training.dataset import Dataset, load_built_in
from training.errors import DatasetInvalid
from training.evaluate import evaluate
from training.pipeline import build_estimator, estimator_for


def test_iris_is_told_apart_well(iris: Dataset) -> None:
    scores = evaluate(build_estimator(), iris).scores

    assert set(scores) == {"accuracy", "f1_macro", "log_loss"}
    assert 0.93 < scores["accuracy"] <= 1
    assert 0.93 < scores["f1_macro"] <= 1
    assert 0 < scores["log_loss"] < 0.25


def test_the_same_seed_gives_the_same_scores(iris: Dataset) -> None:
    def scores(seed: int) -> dict[str, float]:
        return evaluate(build_estimator(), iris, seed=seed).scores

    assert scores(1) == scores(1)
    assert scores(1) != scores(2)


def test_an_estimator_without_probabilities_has_no_log_loss(iris: Dataset) -> None:
    assert set(evaluate(RidgeClassifier(), iris).scores) == {"accuracy", "f1_macro"}


def test_scoring_leaves_the_estimator_unfitted(iris: Dataset) -> None:
    estimator = build_estimator()

    evaluate(estimator, iris)

    with pytest.raises(ValueError, match="not fitted"):
        check_is_fitted(estimator)


class NeedsTheTallest(DummyClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that can't be fitted without the row of the longest sepal, which one fold holds back."""

    def fit(self, rows: NDArray[np.float64], targets: NDArray[np.str_]) -> "NeedsTheTallest":
        if rows[:, 0].max() < 7.9:
            raise ValueError("the tallest is missing")
        super().fit(rows, targets)
        return self


def test_a_fold_that_fails_is_an_error_and_not_a_nan(iris: Dataset) -> None:
    with pytest.raises(ValueError, match="the tallest is missing"):
        evaluate(NeedsTheTallest(), iris)


def test_predictions_come_from_models_that_had_not_seen_the_row(iris: Dataset) -> None:
    evaluation = evaluate(build_estimator(), iris)

    assert evaluation.predictions.shape == iris.targets.shape
    assert np.mean(evaluation.predictions == iris.targets) == pytest.approx(evaluation.scores["accuracy"])
    assert evaluation.deviations.keys() == evaluation.scores.keys()


def test_each_fold_is_announced(iris: Dataset) -> None:
    folds: list[int] = []

    evaluate(build_estimator(), iris, started=folds.append)

    assert folds == [1, 2, 3, 4, 5]


def test_a_quantity_is_scored_by_its_errors() -> None:
    diabetes = load_built_in("diabetes")

    scores = evaluate(estimator_for(diabetes), diabetes).scores

    assert 0.4 < scores["r2"] < 0.6
    assert 40 < scores["mean_absolute_error"] < scores["root_mean_squared_error"] < 60


def test_a_class_that_a_fold_misses_leaves_no_log_loss(iris: Dataset) -> None:
    targets = np.where(np.arange(150) == 0, "rare", iris.targets)
    few = Dataset("few", iris.rows, targets, iris.feature_names)

    assert set(evaluate(build_estimator(), few).scores) == {"accuracy", "f1_macro"}


def test_too_few_rows_are_refused(iris: Dataset) -> None:
    four = Dataset("four", iris.rows[[0, 50, 100, 1]], iris.targets[[0, 50, 100, 1]], iris.feature_names)

    with pytest.raises(DatasetInvalid, match="not 5 rows of any class"):
        evaluate(build_estimator(), four)
