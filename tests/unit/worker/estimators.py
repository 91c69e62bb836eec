"""Estimators that do what their rows say, beside the puppet: one that answers numbers, one without probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from tests.support.puppet import Act


class Numbers(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Features: `value`, `act`. Answers half the value; NaN or infinity where a row asks for it."""

    def fit(self, rows: NDArray[np.float64], targets: Any) -> "Numbers":
        """Learn nothing."""
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (n rows,)."""
        if (rows[:, 1] == Act.RAISE).any():
            raise ValueError("asked to raise")
        answers: NDArray[np.float64] = rows[:, 0] / 2
        answers[rows[:, 1] == Act.ANSWER_NAN] = np.nan
        return answers


class Labels(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Features: `value`, `act`. Class `high` where value >= 0, else `low`; no probabilities."""

    def fit(self, rows: NDArray[np.float64], targets: NDArray[Any]) -> "Labels":
        """Learn nothing."""
        self.classes_ = np.unique(targets)
        return self

    def predict(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        """Shape (n rows,)."""
        if (rows[:, 1] == Act.RAISE).any():
            raise ValueError("asked to raise")
        return np.where(rows[:, 0] >= 0, "high", "low")
