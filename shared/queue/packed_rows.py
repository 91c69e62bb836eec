"""Rows of numbers one after another, without a Python object for each number."""

import base64
import sys
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, overload

from shared.queue.contract import Row


class PackedRows(Sequence[Row]):
    """Rows of numbers, in row order as float64. NaN stands for null."""

    __slots__ = ("_width", "numbers")

    def __init__(self, numbers: "array[float]", width: int) -> None:
        """Take n rows; `numbers` are n times `width` float64."""
        self.numbers = numbers
        self._width = width

    def __len__(self) -> int:
        return len(self.numbers) // self._width

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
