import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import ERRORS_SHOWN, Problem
from gateway.rows import RowParser, flat_row
from tests.support.manifests import classifier

ODD_NAMES = ["petal length (cm)", "a/b~c", 'quo"ted', "Straße", " ", "INSTANCES", "instance", "__proto__", "v"]


def parser(*names: str, rows_max: int = 10) -> RowParser:
    return RowParser(classifier(names or ("length", "width")), rows_max)


def refusal(body: bytes, of: RowParser | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        (of or parser()).parse(body)
    return caught.value


def pointers(problem: Problem) -> list[str]:
    return [item["pointer"] for item in problem.extra["errors"]]


@pytest.mark.parametrize(
    "body", [b'{"length":1.5,"width":2}', b'{"width":2,"length":1.5}', b' {\n"width" : 2.0 , "length":15e-1 }\t']
)
def test_a_flat_object_is_one_row_in_the_order_of_the_features(body: bytes) -> None:
    parsed = parser().parse(body)

    assert (parsed.rows, parsed.single) == ([[1.5, 2.0]], True)


def test_instances_are_rows_in_their_order_each_in_the_order_of_the_features() -> None:
    parsed = parser().parse(b'{"instances":[{"width":2,"length":1},{"length":3,"width":4}]}')

    assert (parsed.rows, parsed.single) == ([[1.0, 2.0], [3.0, 4.0]], False)


def test_one_instance_is_not_a_flat_row() -> None:
    assert not parser().parse(b'{"instances":[{"width":2,"length":1}]}').single


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_feature_may_have_any_name(name: str) -> None:
    rows = parser(name, "other")
    row = {"other": 2.0, name: 1.0}

    assert rows.parse(json.dumps(row).encode()).rows == [[1.0, 2.0]]
    assert rows.parse(json.dumps({"instances": [row]}).encode()).rows == [[1.0, 2.0]]


def test_a_feature_called_instances_can_be_sent_as_instances() -> None:
    body = b'{"instances":[{"instances":1},{"instances":2}]}'

    assert parser("instances").parse(body).rows == [[1.0], [2.0]]


@pytest.mark.parametrize("value", ["1", "-0.0", "1e308", "5e-324", "9007199254740993", "0.1"])
def test_numbers_are_taken_as_they_are(value: str) -> None:
    [[taken]] = parser("x").parse(b'{"x":%s}' % value.encode()).rows

    assert isinstance(taken, float)
    assert repr(taken) == repr(float(value))


@pytest.mark.parametrize(
    "value",
    ["true", "false", "null", '"1.5"', '"NaN"', "[1]", "{}", "NaN", "Infinity", "-Infinity", "1e400", "9" * 400],
)
@pytest.mark.parametrize("form", ['{"length":%s,"width":2}', '{"instances":[{"length":%s,"width":2}]}'])
def test_what_is_no_finite_number_is_refused_where_it_is(form: str, value: str) -> None:
    problem = refusal((form % value).encode())

    assert (problem.status, problem.code) == (422, "invalid_rows")
    assert problem.detail == "1 value does not fit the model's features"
    assert pointers(problem) == ["/length" if form.startswith('{"length"') else "/instances/0/length"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, ["/length", "/width"]),
        ({"length": 1}, ["/width"]),
        ({"length": 1, "width": 2, "colour": 3}, ["/colour"]),
        ({"length": 1, "Width": 2}, ["/width", "/Width"]),
        ([], [""]),
        (1, [""]),
        (None, [""]),
        ("text", [""]),
        ([{"length": 1, "width": 2}], [""]),
        ({"instances": []}, ["/instances"]),
        ({"instances": {}}, ["/instances"]),
        ({"instances": None}, ["/instances"]),
        ({"instances": [1]}, ["/instances/0"]),
        ({"instances": [{"length": 1, "width": 2}, {"length": 1}]}, ["/instances/1/width"]),
        ({"instances": [{"length": 1, "width": 2}], "length": 1}, ["/length"]),
        ({"instances": [{"length": 1, "width": 2}] * 11}, ["/instances"]),
    ],
)
def test_errors_point_at_what_is_wrong(body: Any, where: Sequence[str]) -> None:
    problem = refusal(json.dumps(body).encode())

    assert (problem.status, problem.code) == (422, "invalid_rows")
    assert sorted(pointers(problem)) == sorted(where)


def test_so_many_rows_are_enough() -> None:
    assert (
        len(parser(rows_max=10).parse(json.dumps({"instances": [{"length": 1, "width": 2}] * 10}).encode()).rows) == 10
    )


def test_every_wrong_value_is_counted_but_only_some_are_shown() -> None:
    problem = refusal(
        json.dumps({"instances": [{"length": "x", "width": "y"}] * 10 + [{}]}).encode(), parser(rows_max=20)
    )

    assert len(pointers(problem)) == ERRORS_SHOWN
    assert problem.detail == "22 values do not fit the model's features"


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b'{"length":1,}', b"'length'", b"\xff", b'{"length":"\\ud800"}', b"[" * 100_000, b"{}{}"]
)
@pytest.mark.parametrize("around", [b"%s", b'{"instances":[%s'])
def test_what_is_not_json_is_400(body: bytes, around: bytes) -> None:
    problem = refusal(around % body)

    assert (problem.status, problem.code) == (400, "invalid_json")


@pytest.mark.parametrize("body", [{"length": "sesame"}, {"sesame": 1}, {"instances": "sesame"}, "sesame"])
def test_values_are_not_echoed(body: Any) -> None:
    told = refusal(json.dumps(body).encode()).body()

    assert told.count(b"sesame") == (1 if "sesame" in body and isinstance(body, dict) else 0), "names are, once"


def test_what_validates_is_what_is_documented() -> None:
    one, many = parser("petal length (cm)", "b").json_schema()["oneOf"]

    assert list(one["properties"]) == one["required"] == ["petal length (cm)", "b"]
    assert one["additionalProperties"] is False
    assert one["properties"]["b"]["type"] == "number"
    assert one["properties"]["b"]["description"] == "In training from 0 to 3."
    instances = many["properties"]["instances"]
    assert (instances["minItems"], instances["maxItems"]) == (1, 10)
    assert instances["items"]["required"] == ["petal length (cm)", "b"]


def test_a_flat_row_is_what_the_parser_takes() -> None:
    manifest = classifier(ODD_NAMES)
    row = [float(i) for i in range(len(ODD_NAMES))]

    assert parser(*ODD_NAMES).parse(json.dumps(flat_row(manifest, row)).encode()).rows == [row]
