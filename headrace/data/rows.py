"""Conversion of rows into the input of an estimator, as `headrace.models.manifest` specifies it, and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.data.predictions import Predictions, predict
from headrace.models.fields import InputForm
from headrace.models.manifest import Feature, Filled, Manifest

PANDAS_HAS_STR = int(pd.__version__.split(".")[0]) >= 3

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, eq=False)
class Layout:
    """The form of an estimator's input, as the manifest describes it."""

    form: InputForm
    features: Sequence[Feature]
    filled: Sequence[Filled] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> "Layout":
        """Return the layout of a version's input."""
        return cls(manifest.input, manifest.features, manifest.filled)


def predict_rows(estimator: Any, rows: Rows, layout: Layout, *, probabilities: bool) -> Predictions:
    """Predict rows as a worker does: those of different dtypes in calls of their own.

    Raises:
        NotExportable: as `predict` does.
    """
    parts = []
    order: list[int] = []
    for positions in rows_by_dtypes(rows, layout.features):
        inputs = estimator_input([rows[at] for at in positions], layout)
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


def estimator_input(rows: Rows, layout: Layout) -> Any:
    """Convert n rows of one group into the input of an estimator."""
    if layout.form == "array":
        numbers = _numbers(rows, layout.features[0].dtype)
        for each in layout.filled:
            numbers = np.insert(numbers, each.position, cast(float, each.value), axis=1)
        return numbers
    if layout.form == "texts":
        texts = np.empty(len(rows), dtype=object)
        texts[:] = [row[0] for row in rows]
        return texts
    if layout.form == "series":
        return _series([row[0] for row in rows], layout.features[0]).rename(layout.features[0].name)
    columns = zip(*rows, strict=True)
    frame = pd.DataFrame(
        {each.name: _series(values, each) for each, values in zip(layout.features, columns, strict=True)}
    )
    for each in layout.filled:
        frame.insert(each.position, each.name, pd.Series([each.value] * len(rows), dtype=each.dtype))
    return frame


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


def _numbers(values: Sequence[Any], name: str) -> Any:
    """Return numbers, or rows of them, in the dtype of this name, or as float64 if it can't hold all of them."""
    numbers = np.asarray(values, dtype=np.float64)
    if not _held(values, name).all():
        return numbers
    dtype = _dtype(name)
    with np.errstate(invalid="ignore", over="ignore"):
        if isinstance(dtype, pd.api.extensions.ExtensionDtype):
            return pd.array(list(values), dtype=dtype)
        return numbers.astype(dtype)


@lru_cache(maxsize=64)
def _dtype(name: str) -> Any:
    # pandas tries a dozen kinds of dtypes one after the other.
    return pd.api.types.pandas_dtype(name)


def _held(values: Sequence[Any], name: str) -> NDArray[np.bool_]:
    """Tell which numbers a dtype can hold: an integer dtype no fraction, no number out of its range, mostly no null."""
    numbers = np.asarray(values, dtype=np.float64)
    dtype = _dtype(name)
    if dtype.kind not in "iub":
        return np.ones(numbers.shape, dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        held: NDArray[np.bool_] = numbers.astype(getattr(dtype, "numpy_dtype", dtype)).astype(np.float64) == numbers
    return held | np.isnan(numbers) if isinstance(dtype, pd.api.extensions.ExtensionDtype) else held
