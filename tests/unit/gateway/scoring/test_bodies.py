"""Bodies in the forms of other servers: all mean the same rows, and mistakes are named by their places."""

import json
import time
from typing import Any

import pytest

from gateway.catalog.row_parser import RowParser
from gateway.errors import InvalidJson, InvalidRows
from gateway.scoring.bodies import FORMS, read_json
from gateway.scoring.csv_rows import read_csv
from headrace.models.manifest import Feature
from tests.support.manifests import feature, flag, mixed, text

pytestmark = pytest.mark.unit

FEATURES = (feature("length", nullable=True), text("colour"), flag("old"))
EXPECTED = [[1.5, "red", True], [None, "blue", False]]
RECORDS: list[Any] = [{"length": 1.5, "colour": "red", "old": True}, {"colour": "blue", "old": False}]
TURNED = [[True, 1.5, "red"], [False, None, "blue"]]
LISTS: list[Any] = [[1.5, "red", True], [None, "blue", False]]


def read(content: Any, features: tuple[Feature, ...] = FEATURES, forms: list[str] | None = None) -> list[Any]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return [*read_json(body, features, RowParser(mixed(*features), 3), forms or [*FORMS])]


def table(body: str | bytes, features: tuple[Feature, ...] = FEATURES) -> list[Any]:
    return [*read_csv(body.encode() if isinstance(body, str) else body, features, RowParser(mixed(*features), 3))]


@pytest.mark.parametrize(
    "content",
    [
        {
            "dataframe_split": {
                "columns": ["old", "length", "colour"],
                "data": TURNED,
            }
        },
        {"dataframe_split": {"index": [7, 8], "columns": ["length", "colour", "old"], "data": LISTS}},
        {"dataframe_records": RECORDS},
        {"instances": RECORDS},
        {"instances": LISTS},
        {"inputs": RECORDS},
        {"inputs": LISTS},
        {"inputs": {"length": [1.5, None], "colour": ["red", "blue"], "old": [True, False]}},
        {"inputs": {"length": [[1.5], [None]], "colour": [["red"], ["blue"]], "old": [[True], [False]]}},
        {"instances": LISTS, "params": {}},
        {"instances": LISTS, "signature_name": "serving_default"},
    ],
    ids=str,
)
def test_all_forms_mean_the_same_rows(content: Any) -> None:
    assert read(content) == EXPECTED


def test_a_row_of_a_single_feature_needs_no_list() -> None:
    assert read({"instances": ["a", "b"]}, (text("words"),)) == [["a"], ["b"]]
    assert read({"inputs": [["a"], ["b"]]}, (text("words"),)) == [["a"], ["b"]]


def test_nan_is_missing_as_pythons_clients_write_it() -> None:
    gap = {"columns": ["length", "colour", "old"], "data": [[float("nan"), "NaN", False]]}
    for content in (
        {"dataframe_split": gap},
        {"dataframe_records": [{"length": float("nan"), "colour": "NaN", "old": False}]},
        {"inputs": {"length": [float("nan")], "colour": ["NaN"], "old": [False]}},
    ):
        assert read(content) == [[None, "NaN", False]]


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "1e999", f"1{'0' * 400}"])
def test_numbers_beyond_all_bounds_are_mistakes_beside_nan_too(number: str) -> None:
    for cells in (f'NaN, "red", true], [{number}, "red", true', f'{number}, "red", true], [NaN, "red", true'):
        with pytest.raises(InvalidRows):
            read(b'{"instances": [[%b]]}' % cells.encode())


def test_inputs_may_be_one_row() -> None:
    assert read({"inputs": RECORDS[0]}) == EXPECTED[:1]


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ([], ()),
        ("x", ()),
        ({}, ()),
        ({"rows": LISTS}, ()),
        ({"instances": LISTS, "inputs": LISTS}, ()),
        ({"instances": LISTS, "more": 1}, ()),
        ({"instances": LISTS, "params": {"a": 1}}, ("params",)),
        ({"instances": []}, ("instances",)),
        ({"instances": {}}, ("instances",)),
        ({"instances": None}, ("instances",)),
        ({"instances": [*LISTS, *LISTS]}, ("instances",)),
        ({"instances": [LISTS[0], LISTS[1][:2]]}, ("instances", 1)),
        ({"instances": [LISTS[0], RECORDS[1]]}, ("instances", 1)),
        ({"instances": [RECORDS[0], LISTS[1]]}, ("instances", 1)),
        ({"instances": LISTS[0]}, ("instances", 0)),
        ({"inputs": LISTS[0]}, ("inputs", 0)),
        ({"inputs": [LISTS[0], None]}, ("inputs", 1)),
        ({"instances": [[1.5, "red", 1]]}, ("instances", 0, "old")),
        ({"dataframe_records": [{**RECORDS[0], "more": 1}]}, ("dataframe_records", 0, "more")),
        ({"dataframe_split": LISTS}, ("dataframe_split",)),
        ({"dataframe_split": {"columns": [], "data": []}}, ("dataframe_split", "data")),
        ({"dataframe_split": {"columns": [], "data": [[]]}}, ("dataframe_split", "data", 0, "colour")),
        ({"dataframe_split": {"columns": ["old", "old"], "data": LISTS}}, ("dataframe_split", "columns")),
        ({"dataframe_split": {"columns": [1, 2, 3], "data": LISTS}}, ("dataframe_split", "columns")),
        (
            {"dataframe_split": {"columns": ["length", "old"], "data": [[1, True]]}},
            ("dataframe_split", "data", 0, "colour"),
        ),
        (
            {"dataframe_split": {"columns": ["old", "length", "colour"], "data": [TURNED[0], [True, "1", "red"]]}},
            ("dataframe_split", "data", 1, 1),
        ),
        (
            {"dataframe_split": {"columns": ["old", "length", "colour", "more"], "data": [[True, 1, "red", 1]]}},
            ("dataframe_split", "columns", 3),
        ),
        ({"dataframe_split": {"columns": ["length"], "data": [1.5]}}, ("dataframe_split", "data", 0)),
        ({"inputs": {"length": [1.5], "colour": ["red", "blue"]}}, ("inputs",)),
        ({"inputs": {"length": [], "colour": []}}, ("inputs",)),
        ({"inputs": {}}, ("inputs",)),
    ],
    ids=str,
)
def test_mistakes_are_named_by_their_places(content: Any, path: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRows) as refused:
        read(content)

    assert tuple(refused.value.mistakes[0][0]) == path


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"instances": [Nan]}', b'{"instances": [NaN]', b'[NaN, "\\ud800"]']
)
def test_other_bytes_are_no_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        read(body)


def test_a_form_that_the_route_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidRows):
        read({"dataframe_records": RECORDS}, forms=["instances", "inputs"])


@pytest.mark.parametrize(
    "body",
    [
        "length,colour,old\n1.5,red,true\n,blue,False\n",
        "\ufeffold,length,colour\r\n1,1.5,red\r\n0,,blue",
        '1.5,red,true\n"",blue,false\n',
    ],
)
def test_csv_has_names_or_all_features(body: str) -> None:
    assert table(body) == EXPECTED


@pytest.mark.parametrize("value", ["", " ", "NaN", "nan", "-nan"])
def test_a_number_that_is_empty_or_nan_is_missing(value: str) -> None:
    assert table(f"length,colour,old\n{value},NaN,true") == [[None, "NaN", True]]
    with pytest.raises(InvalidRows):
        table(f"length\n{value}\n", (feature("length"),))


def test_of_texts_alone_the_content_type_tells_a_line_of_names() -> None:
    features, body = (text("words", None), text("more", None)), "a,b\nc,d\n"
    parser = RowParser(mixed(*features), 3)

    for has_names in (None, False):
        assert read_csv(body.encode(), features, parser, has_names) == [["a", "b"], ["c", "d"]]
    assert read_csv(b"more,words\nc,d\n", features, parser, False) == [["more", "words"], ["c", "d"]]
    assert read_csv(b"more,words\nc,d\n", features, parser, True) == [["d", "c"]]
    for wrong in (body, "words,words\nc,d\n", "", "words\n"):
        with pytest.raises(InvalidRows):
            read_csv(wrong.encode(), features, parser, True)


def test_texts_of_csv_stay_texts() -> None:
    assert table('words\n"5"\n"a, ""b"""\n', (text("words", None),)) == [["5"], ['a, "b"']]
    assert table('words\n"a\r\nb"\n', (text("words", None),)) == [["a\r\nb"]]
    features = (text("words", nullable=True), feature("length"))
    assert table("words,length\n,1\nx,2", features) == [[None, 1.0], ["x", 2.0]]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("", ()),
        ("length,colour,old\n", ()),
        ("length,colour,old\n" + "1,red,true\n" * 4, ()),
        (b"length,colour,old\n1,\xff,true", ()),
        ("length,colour,old\n1,red", (0,)),
        ("length,colour,old\n1,red,true\nx,red,true", (1, "length")),
        ("width,paint,age\n1,red,true", ()),
        ("nan,nan,nan\n1,red,true", (0, "old")),
        ("width,paint,age\nx,red,true", (0, "length")),
        ("length,colour,old\n1_0,red,true", (0, "length")),
        ("length,colour,old\n1,red,maybe", (0, "old")),
        ("length,colour,old,more\n1,red,true,2", (0, "more")),
        ('length,colour,old\n1,"red,true', ()),
    ],
    ids=str,
)
def test_mistakes_in_csv_are_named(body: str | bytes, path: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRows) as refused:
        table(body)

    assert tuple(refused.value.mistakes[0][0]) == path


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("length,length,old\n1,1,true", "The first line names length twice"),
        ("length,colour,old,old\n1,red,true,true", "The first line names old twice"),
        ("length,old,old,old\n1,true,true,true", "The first line names old repeatedly"),
        ("length,more,more\n1,1,1", "The first line names a column twice"),
        (",length,colour,old\n0,1,red,true", "The first column has no name: write the table without an index"),
    ],
)
def test_what_is_wrong_with_a_line_of_names_is_said(body: str, detail: str) -> None:
    with pytest.raises(InvalidRows) as refused:
        table(body)

    assert refused.value.mistakes == [((), detail)]


def test_a_row_of_texts_may_repeat_the_name_of_a_feature() -> None:
    assert table("words,words\nc,d\n", (text("words", None), text("more", None))) == [["words", "words"], ["c", "d"]]


@pytest.mark.parametrize(
    "body", [b"1\n" * 2_000_000, b"1\r" * 2_000_000, b"," * 4_000_000, b'"' * 8 + b"\n" * 4_000_000]
)
def test_a_table_of_far_too_many_lines_is_refused_before_it_is_read(body: bytes) -> None:
    began = time.process_time()

    with pytest.raises(InvalidRows) as refused:
        table(body)
    assert "far more" in refused.value.mistakes[0][1]

    assert time.process_time() - began < 2
