"""The model that all peers serve, and the work of each for a batch of rows.

The work is one pass, as in this project: the class of the greatest probability, which for a logistic regression is the
result of `predict`. So the systems differ in serving, not in arithmetic.
"""

import os
from typing import Any

import joblib
import numpy as np

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def load(artifact: str | None = None) -> Any:
    """Return the estimator of an artifact, by default of the one that ARTIFACT names."""
    return joblib.load(artifact or os.environ["ARTIFACT"])


def answer(model: Any, rows: Any) -> list[dict[str, Any]]:
    """Return the class and the probabilities of each row; rows has shape (n rows, 4)."""
    probabilities = model.predict_proba(np.asarray(rows, dtype=np.float64))
    classes = model.classes_[probabilities.argmax(axis=1)]
    names = model.classes_.tolist()
    return [
        {"prediction": str(class_), "probabilities": dict(zip(names, row, strict=True))}
        for class_, row in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]
