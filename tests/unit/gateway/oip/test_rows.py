"""Rows from tensors: both tabular forms, and the same checks as the gateway's own routes have."""

import math
from array import array
from typing import Any

import pytest

from gateway.catalog.row_parser import RowParser
from gateway.errors import InvalidRows, InvalidTensors
from gateway.oip.rows import rows_of
from gateway.oip.tensors import Tensor, read_request
from headrace.models.manifest import Feature
from shared.queue.packed_rows import PackedRows
from tests.support.manifests import feature, flag, mixed, text

pytestmark = pytest.mark.unit

ROWS_MAX = 5
NUMBERS = (feature("length"), feature("width", nullable=True))
MIXED = (feature("length"), text("colour", nullable=True), flag("old"))


def rows(features: tuple[Feature, ...], *inputs: tuple[str, str, list[int], Any]) -> list[Any]:
    tensors = [Tensor(*each) for each in inputs]
    parser = RowParser(mixed(*features), ROWS_MAX)
    return [*rows_of(tensors, features, parser, ROWS_MAX)]


def rows_in_json(two_values: str) -> list[Any]:
    body = f'{{"inputs": [{{"name": "length", "datatype": "FP64", "shape": [2], "data": [{two_values}]}}]}}'.encode()
    features = (feature("length", nullable=True),)
    inputs = read_request(body, None, values_max=2).inputs
    return [*rows_of(inputs, features, RowParser(mixed(*features), ROWS_MAX), ROWS_MAX)]


@pytest.mark.parametrize("values", [[1, 2.5, 3.5, 4], array("d", [1, 2.5, 3.5, 4]), array("f", [1, 2.5, 3.5, 4])])
def test_one_tensor_has_all_features(values: Any) -> None:
    assert rows(NUMBERS, ("any name", "FP64", [2, 2], values)) == [[1.0, 2.5], [3.5, 4.0]]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_each_feature_has_a_tensor(shape: list[int]) -> None:
    found = rows(NUMBERS, ("width", "INT64", shape, array("q", [2, 4])), ("length", "FP64", shape, [1.5, 3]))

    assert found == [[1.5, 2.0], [3.0, 4.0]]


def test_numbers_are_not_looped_over() -> None:
    found = rows_of([Tensor("x", "FP64", [2, 2], array("d", [1, 2, 3, 4]))], NUMBERS, RowParser(mixed(*NUMBERS), 5), 5)

    assert isinstance(found, PackedRows)


def test_missing_values_are_null_or_nan_or_a_tensor_that_is_not_there() -> None:
    expected = [[1.0, None], [3.0, 4.0]]

    assert rows(NUMBERS, ("x", "FP64", [2, 2], [1.0, None, 3, 4])) == expected
    assert rows(NUMBERS, ("x", "FP64", [2, 2], array("d", [1, math.nan, 3, 4]))) == expected
    assert rows(NUMBERS, ("length", "FP64", [2], [1.0, 3.0])) == [[1.0, None], [3.0, None]]
    assert rows(MIXED, ("length", "FP64", [1], (1.0,)), ("old", "BOOL", [1], (True,))) == [[1.0, None, True]]


def test_nan_in_json_is_missing_as_tritons_client_writes_it() -> None:
    assert rows_in_json("NaN, 1") == [[None], [1.0]]


@pytest.mark.parametrize("number", ["Infinity", "1e999", f"1{'0' * 400}"])
def test_numbers_beyond_all_bounds_are_mistakes_beside_nan_too(number: str) -> None:
    with pytest.raises((InvalidRows, InvalidTensors)):
        rows_in_json(f"NaN, {number}")


def test_features_of_all_types_have_tensors_of_their_own() -> None:
    inputs = (
        ("old", "BOOL", [2, 1], (True, False)),
        ("colour", "BYTES", [2, 1], ["red", None]),
        ("length", "FP32", [2, 1], array("f", [1, 2])),
    )

    assert rows(MIXED, *inputs) == [[1.0, "red", True], [2.0, None, False]]


def test_one_feature_needs_no_name() -> None:
    assert rows((text("words"),), ("input-0", "BYTES", [2], ["a", "b"])) == [["a"], ["b"]]
    assert rows((text("words"),), ("words", "BYTES", [2, 1], ["a", "b"])) == [["a"], ["b"]]


@pytest.mark.parametrize(
    "inputs",
    [
        [("x", "FP64", [4], [1, 2, 3, 4])],
        [("x", "FP64", [1, 3], [1, 2, 3])],
        [("x", "FP64", [1, 2, 1], [1, 2])],
        [("length", "FP64", [1, 2, 1], [1, 2])],
        [("length", "FP64", [2], [1, 2]), ("width", "FP64", [1], [1])],
        [("length", "FP64", [2], [1, 2]), ("width", "FP64", [1, 2], [1, 2])],
    ],
    ids=str,
)
def test_other_shapes_are_refused(inputs: Any) -> None:
    with pytest.raises(InvalidTensors, match=r"shape|numbers of rows"):
        rows(NUMBERS, *inputs)


@pytest.mark.parametrize(
    ("features", "inputs", "path", "detail"),
    [
        (NUMBERS, [("x", "FP64", [0, 2], [])], (), "1 to 5 rows"),
        (NUMBERS, [("x", "FP64", [6, 2], [1.0] * 12)], (), "1 to 5 rows"),
        (NUMBERS, [("x", "FP64", [1, 2], array("d", [math.inf, 1]))], (0, "length"), "finite"),
        (NUMBERS, [("x", "FP64", [2, 2], array("d", [1, 1, math.nan, 1]))], (1, "length"), "number"),
        (NUMBERS, [("x", "BOOL", [1, 2], (True, True))], (0, "length"), "number"),
        (NUMBERS, [("x", "BYTES", [1, 2], ["1", "2"])], (0, "length"), "number"),
        (NUMBERS, [("x", "INT64", [1, 2], array("q", [2**53 + 1, 0]))], (0, "length"), "exactly"),
        (NUMBERS, [("width", "FP64", [1], [1.0])], (0, "length"), "required"),
        (NUMBERS, [("length", "FP64", [1], [1.0]), ("depth", "FP64", [1], [1.0])], (0, "depth"), "not permitted"),
        (
            MIXED,
            [("old", "BOOL", [1], (True,)), ("depth", "UINT8", [1], array("B", [1]))],
            (0, "depth"),
            "not permitted",
        ),
        (MIXED, [("length", "BYTES", [1], ["a"]), ("old", "BOOL", [1], (True,))], (0, "length"), "number"),
        (MIXED, [("length", "FP64", [1], [1.0]), ("old", "INT8", [1], (1,))], (0, "old"), "boolean"),
        (MIXED, [("length", "FP64", [1], [1.0]), ("old", "BOOL", [1], [None])], (0, "old"), "boolean"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_named(features: Any, inputs: Any, path: Any, detail: str) -> None:
    with pytest.raises(InvalidRows) as refused:
        rows(features, *inputs)

    assert tuple(refused.value.mistakes[0][0]) == path
    assert detail in refused.value.mistakes[0][1]
