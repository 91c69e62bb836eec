"""Estimators controlled by their rows, like the puppet: one that predicts numbers, one without probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from tests.support.puppet import Act


class Numbers(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor of the features `value` and `act`: half the value, or NaN where a row asks for it."""

    def fit(self, rows: NDArray[np.float64], targets: Any) -> "Numbers":
        """Learn nothing."""
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predictions, shape (n rows,)."""
        if (rows[:, 1] == Act.RAISE).any():
            raise ValueError("asked to raise")
        answers: NDArray[np.float64] = rows[:, 0] / 2
        answers[rows[:, 1] == Act.ANSWER_NAN] = np.nan
        return answers


class Labels(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of `value` and `act` without probabilities: class `high` where value >= 0, else `low`."""

    def fit(self, rows: NDArray[np.float64], targets: NDArray[Any]) -> "Labels":
        """Learn nothing."""
        self.classes_ = np.unique(targets)
        return self

    def predict(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        """Return the predictions, shape (n rows,)."""
        if (rows[:, 1] == Act.RAISE).any():
            raise ValueError("asked to raise")
        return np.where(rows[:, 0] >= 0, "high", "low")
