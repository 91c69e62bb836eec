"""The rows that a model is fitted on, with what is known of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training rows of numeric features with a class each.

    `rows` has shape (n rows, n features), `targets` (n rows,); columns are in the order of `feature_names`.
    """

    name: str
    rows: NDArray[np.float64]
    targets: NDArray[np.str_]
    feature_names: tuple[str, ...]


def load_iris() -> Dataset:
    """150 flowers of 3 species, measured in cm (Fisher 1936), from the copy that scikit-learn carries."""
    bunch = datasets.load_iris()
    return Dataset(
        name="Iris",
        rows=np.asarray(bunch.data, dtype=np.float64),
        targets=np.asarray(bunch.target_names)[bunch.target],
        feature_names=("sepal_length", "sepal_width", "petal_length", "petal_width"),
    )
