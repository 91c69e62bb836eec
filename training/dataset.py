"""Data sets: training rows with their targets, and those that scikit-learn carries."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Task = Literal["classification", "regression"]

BUILT_IN = ("iris", "wine", "breast_cancer", "digits", "diabetes")
"""Names of the data sets that scikit-learn carries."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training rows with a target each.

    Attributes:
        name: a title for people.
        rows: a float64 array of shape (n rows, n features), columns in the order of `feature_names`, or a data frame.
        targets: shape (n rows,), classes or, for regression, numbers.
        feature_names: the names of the columns.
        task: the kind of the targets.
        notes: sentences about rows and columns that were left out.
    """

    name: str
    rows: Any
    targets: Any
    feature_names: tuple[str, ...]
    task: Task = "classification"
    notes: tuple[str, ...] = ()


def load_built_in(name: str) -> Dataset:
    """Return a data set of `BUILT_IN`. Its classes are texts, except the digits, which are integers."""
    from sklearn import datasets

    if name == "iris":
        return load_iris()
    bunch = getattr(datasets, f"load_{name}")()
    rows = np.asarray(bunch.data, dtype=np.float64)
    names = tuple(str(each).replace(" ", "_") for each in bunch.feature_names)
    if name == "diabetes":
        return Dataset("Diabetes", rows, np.asarray(bunch.target, dtype=np.float64), names, task="regression")
    classes = np.asarray(bunch.target_names)
    title = name.replace("_", " ").capitalize()
    return Dataset(title, rows, classes[bunch.target] if classes.dtype.kind == "U" else bunch.target, names)


def load_iris() -> Dataset:
    """Return 150 flowers of 3 species, measured in cm (Fisher 1936), from the copy that scikit-learn carries."""
    from sklearn import datasets

    bunch = datasets.load_iris()
    return Dataset(
        name="Iris",
        rows=np.asarray(bunch.data, dtype=np.float64),
        targets=np.asarray(bunch.target_names)[bunch.target],
        feature_names=("sepal_length", "sepal_width", "petal_length", "petal_width"),
    )
