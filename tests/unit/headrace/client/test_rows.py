"""Rows in the forms that callers have them in, and the JSON that is sent."""

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace import HeadraceError
from headrace.client.batches import batches_of
from headrace.client.errors import UnusableRows
from headrace.client.rows import rows_of

ROWS: list[dict[str, Any]] = [{"age": 42.5, "town": "Ulm"}, {"age": None, "town": None}]
FRAME = pd.DataFrame({"age": [42.5, np.nan], "town": ["Ulm", None]}, index=[7, 7])


def sent(rows: Any) -> Any:
    return json.loads(rows_of(rows).body())


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
    assert sent(rows) == {"instances": ROWS}


@pytest.mark.parametrize("row", [ROWS[0], FRAME.iloc[0]], ids=["mapping", "series"])
def test_one_row_is_flat(row: Any) -> None:
    assert sent(row) == ROWS[0]


@pytest.mark.parametrize(
    "rows",
    [
        [[42.5, "Ulm"], [None, None]],
        [(42.5, "Ulm"), ROWS[1]],
        np.array([[42.5, "Ulm"], [None, None]], dtype=object),
        (row for row in np.array([[42.5, "Ulm"], [None, None]], dtype=object)),
    ],
    ids=["lists", "a tuple and a mapping", "matrix", "generator of arrays"],
)
def test_values_in_the_order_of_the_features_get_their_names(rows: Any) -> None:
    several = rows_of(rows)
    assert several.need_names
    assert json.loads(several.body(["age", "town"])) == {"instances": ROWS}


def test_an_array_of_one_dimension_is_one_row_and_nan_is_a_missing_value() -> None:
    row = rows_of(np.array([42.5, np.nan], np.float32))
    assert (row.need_names, row.single) == (True, True)
    assert json.loads(row.body(["age", "height"])) == {"age": 42.5, "height": None}
    assert not rows_of(ROWS).need_names


def test_numbers_and_times_are_json() -> None:
    frame = pd.DataFrame(
        {"n": np.array([3], np.int8), "x": np.array([0.5], np.float32), "t": [pd.Timestamp(2026, 1, 2)]}
    )
    frame["none"] = pd.NaT
    assert sent(frame) == {"instances": [{"n": 3, "x": 0.5, "t": "2026-01-02T00:00:00", "none": None}]}
    assert sent({"n": np.int64(3), "t": datetime(2026, 1, 2)}) == {
        "n": 3,
        "t": "2026-01-02T00:00:00",
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0], np.zeros((2, 2))], "row 1 is of type ndarray: .*, or a row is a mapping of feature names to values"),
        ([{1.0, 2.0}], "row 0 is of type set: "),
        ([[1.0, 2.0], [1.0]], "row 1 has 1 value, and the model has 2 features; or "),
        (np.zeros((1, 3)), "row 0 has 3 values, and the model has 2 features; or "),
        (np.zeros((2, 2, 2)), "the rows are an array of 3 dimensions: several rows are one of 2; "),
        (np.array(1.0), "the rows are an array of 0 dimensions: "),
        ([1.0, 2.0], r"row 0 is of type float: in a list of rows each is a list of its values, as in \[\[42\.0"),
        ("age=42", "the rows are of type str: "),
        (b"{}", "the rows are of type bytes: "),
        (42, "the rows are of type int: "),
        (None, "the rows are of type NoneType: "),
        (pd.DataFrame(np.zeros((1, 2))), "the feature's name 0 is no text: "),
        (
            pd.Series(["a text", "another"]),
            "the feature's name 0 is no text: a Series is one row, and `to_frame.*` makes it a column; ",
        ),
        (["a text"], "row 0 is of type str: a text is the value of a feature, as in .{'text': 'well made'}., or "),
        ({"age": 1j}, "not JSON serializable: complex"),
        ({"age": {1.0}}, "not JSON serializable: set"),
    ],
)
def test_anything_else_is_refused_with_the_reason(rows: Any, message: str) -> None:
    with pytest.raises(UnusableRows, match=f"{message}.*such as {{'age': 42.0}}$") as caught:
        rows_of(rows).body(["age", "town"])

    assert isinstance(caught.value, HeadraceError) and isinstance(caught.value, TypeError)


@pytest.mark.parametrize("infinity", [math.inf, -math.inf, np.float32(math.inf)])
@pytest.mark.parametrize(
    "form",
    [
        lambda values: [{"age": 1.0, "town": None}, {"age": values[0], "town": "null"}],
        lambda values: [[1.0, None], [values[0], 2.0]],
        lambda values: np.array([[1.0, math.nan], [values[0], 2.0]], np.float32),
        lambda values: pd.DataFrame({"age": [1.0, *values], "town": None}),
        lambda values: [pd.Series({"age": 1.0}), pd.Series({"age": values[0]})],
    ],
    ids=["dicts", "lists", "matrix", "frame", "series"],
)
def test_infinity_is_no_missing_value(form: Callable[[list[Any]], Any], infinity: Any) -> None:
    message = f"^row 8, feature 'age': {infinity} is no number of JSON; NaN is a missing value$"
    with pytest.raises(UnusableRows, match=message):
        rows_of(form([infinity]), first=7).body(["age", "town"])

    assert json.loads(rows_of(form([math.nan])).body(["age", "town"]))["instances"][1]["age"] is None


def test_infinity_in_one_row_is_refused_too() -> None:
    for row in ({"age": math.inf}, np.array([math.inf]), pd.Series({"age": math.inf})):
        with pytest.raises(UnusableRows, match=r"^row 0, feature 'age': inf is no number"):
            rows_of(row).body(["age"])


def test_a_name_that_comes_twice_is_refused() -> None:
    twice = pd.concat([FRAME, FRAME[["age"]] + 1], axis=1)
    for rows in (twice, twice.iloc[0], [twice.iloc[0]]):
        with pytest.raises(UnusableRows, match=r"^the feature's name 'age' comes 2 times: "):
            rows_of(rows)
    with pytest.raises(UnusableRows, match=r"^the feature's name 'age' comes 2 times: "):
        next(batches_of(twice, 10))
