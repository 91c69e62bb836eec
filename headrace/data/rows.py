"""Conversion of rows into the input of an estimator, as `headrace.models.manifest` specifies it, and predictions."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.data.predictions import Predictions, predict
from headrace.models.manifest import Feature

PANDAS_HAS_STR = int(pd.__version__.split(".")[0]) >= 3

Rows = Sequence[Sequence[Any]]

Form = Literal["array", "frame"]


def predict_rows(
    estimator: Any, rows: Rows, features: Sequence[Feature], form: Form, *, probabilities: bool
) -> Predictions:
    """Predict rows as a worker does: those of different dtypes in calls of their own.

    Raises:
        NotExportable: as `predict` does.
    """
    parts = []
    order: list[int] = []
    for positions in rows_by_dtypes(rows, features):
        inputs = estimator_input([rows[at] for at in positions], features, form)
        parts.append(predict(estimator, inputs, probabilities=probabilities))
        order += positions
    return Predictions.concatenated(parts).at(np.argsort(order))


def rows_by_dtypes(rows: Rows, features: Sequence[Feature]) -> list[list[int]]:
    """Return the positions of rows in groups: in a group the dtype of a column can hold all values or none."""
    columns = zip(*rows, strict=True)
    held = [_held(values, each.dtype) for values, each in zip(columns, features, strict=True) if each.type == "number"]
    if all(each.all() for each in held):
        return [list(range(len(rows)))]
    _, groups = np.unique(np.column_stack(held), axis=0, return_inverse=True)
    return [np.flatnonzero(groups == each).tolist() for each in range(groups.max() + 1)]


def estimator_input(rows: Rows, features: Sequence[Feature], form: Form) -> Any:
    """Convert n rows of one group into a float64 array (n, n features) or a data frame."""
    if form == "array":
        return np.asarray(rows, dtype=np.float64)
    columns = zip(*rows, strict=True)
    return pd.DataFrame({each.name: _series(values, each) for each, values in zip(features, columns, strict=True)})


def _series(values: Sequence[Any], feature: Feature) -> Any:
    if feature.type == "number":
        return pd.Series(_numbers(values, feature.dtype))
    if feature.dtype == "category":
        # A future pandas refuses texts that are no category, instead of turning them into NaN.
        known = set(feature.categories or ())
        values = [value if value in known else None for value in values]
        return pd.Series(values, dtype=pd.CategoricalDtype(feature.categories))
    dtype = feature.dtype
    if dtype == "str" and not PANDAS_HAS_STR:
        dtype = "object"
    if dtype == "object" and feature.null_as == "nan":
        values = [np.nan if value is None else value for value in values]
    return pd.Series(values, dtype=dtype)


def _numbers(values: Sequence[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(dtype if _held(values, dtype).all() else np.float64)


def _held(values: Sequence[Any], dtype: str) -> NDArray[np.bool_]:
    """Tell which of n values a dtype can hold: an integer dtype no null, no fraction, no number out of its range."""
    numbers = np.asarray(values, dtype=np.float64)
    if np.dtype(dtype).kind not in "iu":
        return np.ones(len(numbers), dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        held: NDArray[np.bool_] = numbers.astype(dtype).astype(np.float64) == numbers
    return held
