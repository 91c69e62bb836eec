"""Rows in the forms that callers have them in, and the JSON that is sent."""

import json
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace import HeadraceError
from headrace.client.errors import UnusableRows
from headrace.client.rows import body_of

ROWS: list[dict[str, Any]] = [{"age": 42.5, "town": "Ulm"}, {"age": None, "town": None}]
FRAME = pd.DataFrame({"age": [42.5, np.nan], "town": ["Ulm", None]}, index=[7, 7])


class Polars:
    """A data frame with the method of Polars' own."""

    columns = ("age", "town")

    def to_dicts(self) -> list[dict[str, Any]]:
        return ROWS


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        FRAME,
        FRAME.convert_dtypes(),
        FRAME.astype({"town": "category"}),
        [row for _, row in FRAME.iterrows()],
        Polars(),
    ],
    ids=["list", "tuple", "generator", "frame", "frame of nullable types", "category", "list of series", "polars"],
)
def test_several_rows_are_instances(rows: Any) -> None:
    assert json.loads(body_of(rows)) == {"instances": ROWS}


@pytest.mark.parametrize("row", [ROWS[0], FRAME.iloc[0]], ids=["mapping", "series"])
def test_one_row_is_flat(row: Any) -> None:
    assert json.loads(body_of(row)) == ROWS[0]


def test_numbers_and_times_are_json() -> None:
    frame = pd.DataFrame(
        {"n": np.array([3], np.int8), "x": np.array([0.5], np.float32), "t": [pd.Timestamp(2026, 1, 2)]}
    )
    frame["none"] = pd.NaT
    assert json.loads(body_of(frame)) == {"instances": [{"n": 3, "x": 0.5, "t": "2026-01-02T00:00:00", "none": None}]}
    assert json.loads(body_of({"n": np.int64(3), "t": datetime(2026, 1, 2)})) == {"n": 3, "t": "2026-01-02T00:00:00"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0]], "row 0 is of type list: a row is a mapping of feature names to values"),
        ([ROWS[0], (1.0, 2.0)], "row 1 is of type tuple: "),
        (np.zeros((2, 2)), "row 0 is of type ndarray: "),
        ([1.0], "row 0 is of type float: "),
        ("age=42", "the rows are of type str: "),
        (b"{}", "the rows are of type bytes: "),
        (42, "the rows are of type int: "),
        (None, "the rows are of type NoneType: "),
        (pd.DataFrame(np.zeros((1, 2))), "the feature's name 0 is no text: "),
        (pd.Series(["a text", "another"]), "the feature's name 0 is no text: "),
        ({"age": 1j}, "not JSON serializable: complex"),
        ({"age": {1.0}}, "not JSON serializable: set"),
    ],
)
def test_anything_else_is_refused_with_the_reason(rows: Any, message: str) -> None:
    with pytest.raises(UnusableRows, match=f"{message}.*such as {{'age': 42.0}}$") as caught:
        body_of(rows)

    assert isinstance(caught.value, HeadraceError) and isinstance(caught.value, TypeError)
