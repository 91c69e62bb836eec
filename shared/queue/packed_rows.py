"""Rows of numbers one after another, without a Python object for each number."""

import base64
import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, overload

from shared.queue.contract import Row

PACKED_ROWS_MIN = 16
"""Rows of numbers above which they are packed; the JSON of fewer rows is as quick, and can be read by eye."""


class PackedRows(Sequence[Row]):
    """Rows of numbers, in row order as float64. NaN stands for null."""

    __slots__ = ("_width", "numbers")

    def __init__(self, numbers: "array[float]", width: int) -> None:
        """Take n rows; `numbers` are n times `width` float64."""
        self.numbers = numbers
        self._width = width

    def __len__(self) -> int:
        return len(self.numbers) // self._width

    def __iter__(self) -> Iterator[Row]:
        values: list[Any] = self.numbers.tolist()
        if math.isnan(sum(values)):
            values = [None if value != value else value for value in values]
        return map(list, zip(*[iter(values)] * self._width, strict=True))

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> "PackedRows": ...

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            start, stop, _ = at.indices(len(self))
            return PackedRows(self.numbers[start * self._width : stop * self._width], self._width)
        start = range(len(self))[at] * self._width
        return [None if value != value else value for value in self.numbers[start : start + self._width]]


def interleaved(columns: Iterable[Iterable[float]], width: int, n_rows: int) -> "array[float]":
    """Return the numbers of columns row after row.

    Args:
        columns: `width` columns of `n_rows` numbers.
        width: the number of columns.
        n_rows: the number of rows.

    Raises:
        TypeError: if a value is not a number, null for example.
    """
    numbers = array("d", bytes(8 * width * n_rows))
    for at, column in enumerate(columns):
        numbers[at::width] = column if isinstance(column, array) else array("d", column)
    return numbers


def rows_of_columns(columns: Sequence[Sequence[Any]], only_numbers: bool) -> Sequence[Row]:
    """Return the rows of columns of the same length; many rows are packed if all values are numbers."""
    if only_numbers and len(columns[0]) > PACKED_ROWS_MIN:
        with suppress(TypeError):
            # A null is not a number.
            return PackedRows(interleaved(columns, len(columns), len(columns[0])), len(columns))
    return [*map(list, zip(*columns, strict=True))]


def packed(*parts: Sequence[Row]) -> str:
    """Return rows of numbers one after another as little-endian float64 in base64: no digits to write or to read.

    Raises:
        TypeError: if a value is not a number, null for example.
    """
    numbers = array("d")
    for rows in parts:
        numbers.extend(rows.numbers if isinstance(rows, PackedRows) else array("d", [*chain.from_iterable(rows)]))
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers).decode()
