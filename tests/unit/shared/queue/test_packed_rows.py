"""Rows of numbers that travel as one block."""

import base64
import math
import struct
from array import array
from typing import Any

import pytest

from shared.queue.contract import Row
from shared.queue.packed_rows import PACKED_ROWS_MIN, PackedRows, packed, rows_of_columns

pytestmark = pytest.mark.unit


def test_rows_of_numbers_are_packed_as_little_endian_doubles() -> None:
    rows: list[Row] = [[5.1, -0.0], [1e-300, 2**53]]

    assert struct.unpack("<4d", base64.b64decode(packed(rows))) == (5.1, -0.0, 1e-300, 2.0**53)
    assert packed([]) == packed() == ""


@pytest.mark.parametrize("value", [None, "1", [1.0]])
def test_other_rows_are_not_packed(value: Any) -> None:
    with pytest.raises(TypeError):
        packed([[1.0], [value]])


def test_packed_rows_are_packed_with_others_as_lists_are() -> None:
    rows = PackedRows(array("d", [1, 2, 3, 4, 5, 6]), 2)

    assert packed(rows[1:], [[7, 8]], rows[:1]) == packed([[3, 4], [5, 6], [7, 8], [1, 2]])


@pytest.mark.parametrize(
    ("more", "only_numbers", "is_packed"),
    [([1.0], True, True), ([], True, False), ([1.0], False, False), ([None], True, False)],
)
def test_many_rows_of_numbers_become_packed_rows(more: list[Any], only_numbers: bool, is_packed: bool) -> None:
    column = [*map(float, range(PACKED_ROWS_MIN)), *more]

    rows = rows_of_columns([column, column], only_numbers)

    assert isinstance(rows, PackedRows) == is_packed
    assert [*rows] == [[value, value] for value in column]


def test_packed_rows_are_a_sequence_of_rows() -> None:
    rows = PackedRows(array("d", [1, 2, math.nan, 4, 5, 6]), 2)

    assert len(rows) == 3
    assert [*rows] == [[1.0, 2.0], [None, 4.0], [5.0, 6.0]]
    assert rows[-1] == [5.0, 6.0]
    assert [*rows[1:9]] == [*rows][1:]
    assert [*rows[3:]] == []
    with pytest.raises(IndexError):
        rows[3]
