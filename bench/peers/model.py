"""The model that all peers serve, and the work that each of them does for a batch of rows.

One pass, as this project does it: the class of the greatest probability, which for a logistic regression is what
`predict` says. So what differs between systems is the serving, not the arithmetic.
"""

import os
from typing import Any

import joblib
import numpy as np

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def load(artifact: str | None = None) -> Any:
    """The estimator of an artifact, by default the one that ARTIFACT names."""
    return joblib.load(artifact or os.environ["ARTIFACT"])


def answer(model: Any, rows: Any) -> list[dict[str, Any]]:
    """The class and the probabilities of each row; rows has shape (n rows, 4)."""
    probabilities = model.predict_proba(np.asarray(rows, dtype=np.float64))
    classes = model.classes_[probabilities.argmax(axis=1)]
    names = model.classes_.tolist()
    return [
        {"prediction": str(class_), "probabilities": dict(zip(names, row, strict=True))}
        for class_, row in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]
