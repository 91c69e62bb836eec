"""The estimator's input: an array, or a data frame with the columns that the estimator saw in training.

`headrace.models.manifest` specifies the conversion of rows. The exporter implements it too (`headrace.data.rows`), and
a test compares the two.
"""

import base64
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.models.manifest import Feature, Filled, Manifest
from shared.queue.contract import Row

Rows = list[Row] | NDArray[np.float64]
"""n rows: a list of rows, or an array of shape (n, n features) if all are numbers; it must not be written to."""

Column = Callable[[Sequence[Any]], Any]
"""A function that makes one column of a data frame from its n values, None where a row holds null."""


class MixedRows(ValueError):
    """Rows that must be converted apart, because the dtype of a column can hold the values of some of them only."""

    def __init__(self, held: NDArray[np.bool_]) -> None:
        """`held` has shape (n rows,), true where the dtype can hold the value."""
        super().__init__("some rows have a value that the dtype of its column can't hold")
        self.held = held


def unpack_rows(rows: list[Row] | str, sizes: Sequence[int]) -> Rows:
    """Return the rows of a message.

    Args:
        rows: The rows as a list, or packed: base64 of float64 numbers, little-endian, row after row.
        sizes: The number of rows of each call.

    Raises:
        ValueError: if a call has no row, the sizes do not add up to the rows, or the packed rows can't be read.
    """
    # An announced number is no more than the bytes hold: whatever is made for each row or call is bounded by them.
    n_rows = sum(sizes)
    if min(sizes, default=0) < 1:
        raise ValueError("a call without rows")
    if isinstance(rows, str):
        numbers = np.frombuffer(base64.b64decode(rows, validate=True), dtype="<f8")
        if n_rows > len(numbers):
            raise ValueError(f"{len(numbers)} numbers for {n_rows} rows")
        return numbers.reshape(n_rows, -1)
    if len(rows) != n_rows:
        raise ValueError(f"{len(rows)} rows, not {n_rows}")
    return rows


def split_rows(rows: Rows, sizes: Sequence[int]) -> list[Rows]:
    """Split the rows of a message into parts of these sizes, which add up to the number of rows."""
    ends = accumulate(sizes)
    return [rows[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, one part after another."""
    if any(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [row for part in parts for row in part]


def rows_at(rows: Rows, positions: NDArray[np.intp]) -> Rows:
    """Return the rows at some positions, in the order of the positions."""
    return rows[positions] if isinstance(rows, np.ndarray) else [rows[at] for at in positions.tolist()]


def row_converter(manifest: Manifest) -> Callable[[Rows], Any]:
    """Return a function from n rows (values in feature order) to the estimator's input.

    The function copies the rows. It raises MixedRows if they must be converted apart, and for values that are not of
    the features' types the errors of NumPy and pandas.
    """
    if manifest.input == "array":
        return _array(np.dtype(manifest.features[0].dtype), manifest.filled)
    if manifest.input == "texts":
        return lambda rows: _objects([row[0] for row in rows])
    array = array_of_frame(manifest)
    if array is not None:
        return _uniform_frame(manifest, array)
    names = [feature.name for feature in manifest.features]
    columns = [_column(feature) for feature in manifest.features]

    def frame(rows: Rows) -> Any:
        values = np.array(rows.T, order="C") if isinstance(rows, np.ndarray) else zip(*rows, strict=True)
        by_name = {name: column(each) for name, column, each in zip(names, columns, values, strict=True)}
        made = pd.DataFrame(by_name, copy=False)
        for each in manifest.filled:
            made.insert(each.position, each.name, pd.Series([each.value] * len(rows), dtype=each.dtype))
        return made

    if manifest.input == "series":
        return lambda rows: frame(rows)[names[0]]
    return frame


def array_of_frame(manifest: Manifest) -> Callable[[Rows], NDArray[Any]] | None:
    """Return a function from n rows to the array that their frame holds; None if its columns are of several dtypes.

    The array is in column order, as that of a frame made of columns is: in another one, sums are rounded differently.
    """
    columns: list[Feature | Filled] = [*manifest.features, *manifest.filled]
    dtypes = {column.dtype for column in columns}
    if manifest.input != "frame" or len(dtypes) > 1 or any(feature.type != "number" for feature in manifest.features):
        return None
    dtype = pd.api.types.pandas_dtype(columns[0].dtype)
    if not isinstance(dtype, np.dtype):
        return None
    array = _array(dtype, manifest.filled)
    return lambda rows: np.asfortranarray(array(rows))


def _uniform_frame(manifest: Manifest, array: Callable[[Rows], NDArray[Any]]) -> Callable[[Rows], Any]:
    """Return a function from n rows to a frame of one block, which takes a tenth of the time of one by columns."""
    names = [feature.name for feature in manifest.features]
    for each in manifest.filled:
        names.insert(each.position, each.name)
    index = pd.Index(names)
    return lambda rows: pd.DataFrame(array(rows), columns=index, copy=False)


def _array(dtype: np.dtype[Any], filled: Sequence[Filled]) -> Callable[[Rows], NDArray[Any]]:
    insertions: list[tuple[int, Any]] = [(each.position, each.value) for each in filled]

    def array(rows: Rows) -> NDArray[Any]:
        numbers = _cast(np.array(rows, dtype=np.float64), dtype)
        for position, value in insertions:
            numbers = np.insert(numbers, position, value, axis=1)
        return numbers

    return array


def _column(feature: Feature) -> Column:
    if feature.type == "number":
        return _numbers(feature)
    if feature.type == "boolean" and feature.dtype == "bool":
        return lambda values: np.asarray(values, dtype=np.bool_)
    if feature.dtype == "category":
        dtype = pd.CategoricalDtype(feature.categories)
        # The index of the categories is built once; pd.Categorical would hash all categories again for every batch.
        return lambda values: pd.Categorical.from_codes(
            dtype.categories.get_indexer(_objects(values)), dtype=dtype, validate=False
        )
    if feature.dtype == "object" or (feature.dtype == "str" and pd.api.types.pandas_dtype("str") == np.dtype("str")):
        # pandas before 3 writes None as the text "None" when it is asked for `str`.
        nan_for_null = feature.dtype == "str" or feature.null_as == "nan"
        return lambda values: pd.Series(_objects(values, nan_for_null=nan_for_null), dtype=object, copy=False)
    dtype = pd.api.types.pandas_dtype(feature.dtype)
    return lambda values: pd.array(_objects(values), dtype=dtype)


def _objects(values: Sequence[Any], nan_for_null: bool = False) -> NDArray[Any]:
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    if nan_for_null:
        objects[objects == None] = np.nan  # noqa: E711 - compares each element
    return objects


def _numbers(feature: Feature) -> Column:
    """Return a function that casts to the dtype of training, as `_cast` does."""
    dtype = pd.api.types.pandas_dtype(feature.dtype)
    if isinstance(dtype, np.dtype):
        return lambda values: _cast(np.asarray(values, dtype=np.float64), dtype)
    make = dtype.construct_array_type()

    def masked(values: Sequence[Any]) -> Any:
        numbers = np.asarray(values, dtype=np.float64)
        gaps = np.isnan(numbers)
        cast = _cast(np.where(gaps, 0.0, numbers), dtype.numpy_dtype)
        return make(cast, gaps) if cast.dtype == dtype.numpy_dtype else numbers

    return masked


def _cast(numbers: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return n numbers or n rows of them in a dtype, or as they are if an integer dtype can't hold any of the n.

    Raises:
        MixedRows: if it can hold some of them only: the dtype of a row must not depend on the rows beside it.
    """
    if dtype == np.float64:
        return numbers
    with np.errstate(invalid="ignore", over="ignore"):
        cast: NDArray[Any] = numbers.astype(dtype)
        if dtype.kind not in "iub":
            return cast
        held = cast.astype(np.float64) == numbers
    if held.all():
        return cast
    held = held.reshape(len(held), -1).all(axis=1)
    if held.any():
        raise MixedRows(held)
    return numbers
