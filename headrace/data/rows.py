"""Conversion of rows into the input of an estimator, as `headrace.models.manifest` specifies it."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.models.manifest import Feature

PANDAS_HAS_STR = int(pd.__version__.split(".")[0]) >= 3

Rows = Sequence[Sequence[Any]]


def estimator_input(rows: Rows, features: Sequence[Feature], form: Literal["array", "frame"]) -> Any:
    """Convert n rows, each with one value per feature, into a float64 array (n, n features) or a data frame."""
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
    numbers = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        cast: NDArray[Any] = numbers.astype(dtype)
        if cast.dtype.kind in "iu" and not np.array_equal(cast.astype(np.float64), numbers):
            return numbers
    return cast
