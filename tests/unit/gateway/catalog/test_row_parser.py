import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import SchemaValidator

from gateway.api.statuses import ERRORS_SHOWN, problem_of
from gateway.catalog.parts_limit import PARTS_MIN
from gateway.catalog.row_examiner import MISTAKES_MAX
from gateway.catalog.row_parser import QUICK_ROW_BYTES, TEXT_CHARACTERS, RowParser
from gateway.errors import InvalidRows, RequestError
from gateway.problems import Problem
from headrace.models.made_up import flat_row
from headrace.models.manifest import Feature, Manifest
from tests.support.manifests import classifier, feature, flag, mixed, text

ODD_NAMES = ["petal length (cm)", "a/b~c", 'quo"ted', "Straße", " ", "INSTANCES", "instance", "__proto__", "v"]


def parser(*names: str, rows_max: int = 10) -> RowParser:
    return RowParser(classifier(names or ("length", "width")), rows_max)


def refusal(body: bytes, of: RowParser | None = None) -> Problem:
    with pytest.raises(RequestError) as caught:
        (of or parser()).parse(body)
    return problem_of(caught.value)


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


@pytest.mark.parametrize("value", ["1", "-0.0", "1e308", "5e-324", "9007199254740992", "1e22", "0.1"])
def test_numbers_are_taken_as_they_are(value: str) -> None:
    [[taken]] = parser("x").parse(b'{"x":%s}' % value.encode()).rows

    assert isinstance(taken, float)
    assert repr(taken) == repr(float(value))


def whole(name: str, dtype: str = "int64", *, nullable: bool = False) -> Feature:
    """A feature that was whole numbers in training."""
    return feature(name, nullable=nullable).model_copy(update={"dtype": dtype})


EXACT = [*("9007199254740992", "-9007199254740992", "18014398509481984", "1e300", "9007199254740993.0", str(2**100))]
ROUNDED = [*("9007199254740993", "-9007199254740993", "9223372036854775807", "123456789012345678901", str(10**300))]
FORMS = ['{"x":%s,"id":7}', '{"instances":[{"x":%s,"id":7}]}', '{"instances":[{"x":1,"id":7},{"id":7,"x":%s}]}']


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", EXACT)
def test_a_large_number_is_taken_where_float64_holds_it(form: str, value: str) -> None:
    rows = RowParser(mixed(feature("x", nullable=True), whole("id")), 10).parse((form % value).encode()).rows

    assert repr(rows[-1]) == repr([float(value), 7.0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ROUNDED)
@pytest.mark.parametrize("nullable", [False, True])
def test_a_whole_number_that_would_be_rounded_is_refused(form: str, value: str, nullable: bool) -> None:
    problem = refusal((form % value).encode(), RowParser(mixed(feature("x", nullable=nullable), whole("id")), 10))

    assert (problem.status, problem.code) == (422, "invalid_rows")
    assert [pointer.split("/")[-1] for pointer in pointers(problem)] == ["x"]
    assert "float64 holds exactly" in problem.extra["errors"][0]["detail"]
    assert value not in problem.body().decode()


@pytest.mark.parametrize("form", ['{"x":1,"id":%s}', '{"instances":[{"x":1,"id":1},{"x":1,"id":%s}]}'])
@pytest.mark.parametrize("dtype", ["int8", "uint64", "Int64"])
@pytest.mark.parametrize("value", [*ROUNDED, "1e300", "-18014398509481984", "9007199254740993.0", "9007199254740994"])
def test_a_feature_of_whole_numbers_takes_none_of_a_size_that_may_be_rounded(form: str, dtype: str, value: str) -> None:
    rows = RowParser(mixed(feature("x"), whole("id", dtype)), 10)

    assert [pointer.split("/")[-1] for pointer in pointers(refusal((form % value).encode(), rows))] == ["id"]


def test_whole_numbers_are_taken_up_to_the_last_that_is_exact() -> None:
    rows = RowParser(mixed(whole("id"), whole("other", nullable=True)), 10)

    for value in (2**53 - 1, 1 - 2**53, 0.5):
        body = {"id": value, "other": None}
        assert rows.parse(json.dumps(body).encode()).rows == [[float(value), None]]
        assert rows.parse(json.dumps({"instances": [body]}).encode()).rows == [[float(value), None]]
    one, _ = rows.json_schema()["oneOf"]
    assert (one["properties"]["id"]["minimum"], one["properties"]["id"]["maximum"]) == (1 - 2**53, 2**53 - 1)


def refusing(known: list[str] | None = None, magnitude: float | None = None, *, nullable: bool = False) -> RowParser:
    """A parser of a number x and a text `town`, of which an estimator refuses some values."""
    town = text("town", ["a", "b"], nullable=nullable).model_copy(update={"known": known, "refuses_unknown": True})
    return RowParser(mixed(feature("x").model_copy(update={"magnitude": magnitude}), town), 10)


@pytest.mark.parametrize("form", ['{"x":1,"town":%s}', '{"instances":[{"x":1,"town":"b"},{"x":1,"town":%s}]}'])
@pytest.mark.parametrize("nullable", [False, True])
def test_a_text_that_the_estimator_would_refuse_is_refused_here(form: str, nullable: bool) -> None:
    rows = refusing(["a", "b"], nullable=nullable)

    assert rows.parse((form % '"a"').encode()).rows[-1] == [1.0, "a"]
    problem = refusal((form % '"secret"').encode(), rows)
    assert (problem.status, problem.code) == (422, "invalid_rows")
    assert [pointer.split("/")[-1] for pointer in pointers(problem)] == ["town"]
    assert "values of training" in problem.extra["errors"][0]["detail"]
    assert "secret" not in problem.body().decode()


@pytest.mark.parametrize("form", ['{"x":%s,"on":%s}', '{"instances":[{"x":1000,"on":true},{"x":%s,"on":%s}]}'])
@pytest.mark.parametrize(
    ("x", "on", "wrong"), [("1500", "true", "x"), ("1000.5", "true", "x"), ("1000", "false", "on")]
)
def test_numbers_and_booleans_that_the_estimator_does_not_know_are_refused(
    form: str, x: str, on: str, wrong: str
) -> None:
    zips = feature("x").model_copy(update={"known": [1000.0, 2000.0], "dtype": "int64"})
    rows = RowParser(mixed(zips, flag("on").model_copy(update={"known": [True]})), 10)

    assert rows.parse((form % ("2000", "true")).encode()).rows[-1] == [2000.0, True]
    assert [pointer.split("/")[-1] for pointer in pointers(refusal((form % (x, on)).encode(), rows))] == [wrong]


@pytest.mark.parametrize("form", ['{"x":%s,"town":"a"}', '{"instances":[{"x":1,"town":"b"},{"x":%s,"town":"a"}]}'])
@pytest.mark.parametrize(("magnitude", "value"), [(65504.0, "65505"), (65504.0, "-1e5"), (3.5e38, "1e39")])
def test_a_number_that_the_estimator_would_refuse_is_refused_here(form: str, magnitude: float, value: str) -> None:
    rows = refusing(magnitude=magnitude)

    for taken in (magnitude, -magnitude, 1.0):
        assert rows.parse((form % repr(taken)).encode()).rows[-1] == [taken, "a"]
    assert [pointer.split("/")[-1] for pointer in pointers(refusal((form % value).encode(), rows))] == ["x"]


def test_the_document_shows_which_values_the_estimator_takes() -> None:
    one, _ = refusing(["a", "b"], 65504.0).json_schema()["oneOf"]

    assert one["properties"]["town"]["enum"] == ["a", "b"]
    assert (one["properties"]["x"]["minimum"], one["properties"]["x"]["maximum"]) == (-65504.0, 65504.0)


@pytest.mark.parametrize(
    "value",
    ["true", "false", "null", '"1.5"', '"NaN"', "[1]", "{}", "NaN", "Infinity", "-Infinity", "1e400", "9" * 400],
)
@pytest.mark.parametrize("form", ['{"length":%s,"width":2}', '{"instances":[{"length":%s,"width":2}]}'])
def test_a_value_that_is_no_finite_number_is_refused_by_its_pointer(form: str, value: str) -> None:
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


def test_the_largest_request_is_taken() -> None:
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
def test_a_body_that_is_not_json_is_400(body: bytes, around: bytes) -> None:
    problem = refusal(around % body)

    assert (problem.status, problem.code) == (400, "invalid_json")


def test_the_place_where_a_body_stops_being_json_is_told() -> None:
    problem = refusal(b'{"length": sesame}')

    assert "line 1 column 12" in problem.detail
    assert "sesame" not in problem.detail


@pytest.mark.parametrize("body", [{"length": "sesame"}, {"sesame": 1}, {"instances": "sesame"}, "sesame"])
def test_values_are_not_echoed(body: Any) -> None:
    answer = refusal(json.dumps(body).encode()).body()

    assert answer.count(b"sesame") == (1 if "sesame" in body and isinstance(body, dict) else 0), "names are, once"


def test_the_documented_schema_is_the_validating_one() -> None:
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


# --- features of all types

MIXED = mixed(feature("size"), text("colour"), flag("broken"))
NULLABLE = mixed(*(make(name, nullable=True) for name, make in (("size", feature), ("colour", text), ("broken", flag))))


@pytest.mark.parametrize("form", ["%s", '{"instances":[%s]}'])
@pytest.mark.parametrize("colour", ["red", "not in training", "", "Straße \U0001f6e4", "true", "1", "null"])
@pytest.mark.parametrize("broken", [True, False])
def test_texts_and_truth_values_are_taken_as_they_are(form: str, colour: str, broken: bool) -> None:
    body = form % json.dumps({"broken": broken, "colour": colour, "size": 1})

    [[size, taken, flag_taken]] = RowParser(MIXED, 10).parse(body.encode()).rows

    assert (size, taken) == (1.0, colour)
    assert flag_taken is broken


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colour", None),
        ("colour", 1),
        ("colour", 1.5),
        ("colour", True),
        ("colour", ["red"]),
        ("colour", {}),
        ("broken", None),
        ("broken", 0),
        ("broken", 1),
        ("broken", "true"),
        ("broken", ""),
        ("broken", []),
        ("size", None),
        ("size", "1"),
        ("size", True),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_pointer(name: str, value: Any) -> None:
    row = {"size": 1, "colour": "red", "broken": True, name: value}

    for body, pointer in ((row, f"/{name}"), ({"instances": [row]}, f"/instances/0/{name}")):
        problem = refusal(json.dumps(body).encode(), RowParser(MIXED, 10))
        assert (problem.status, problem.code) == (422, "invalid_rows")
        assert pointers(problem) == [pointer]


def test_null_is_taken_for_nullable_features() -> None:
    body = b'{"size":null,"colour":null,"broken":null}'

    assert RowParser(NULLABLE, 10).parse(body).rows == [[None, None, None]]
    assert RowParser(NULLABLE, 10).parse(b'{"size":1,"colour":"red","broken":false}').rows == [[1.0, "red", False]]
    assert sorted(pointers(refusal(body, RowParser(MIXED, 10)))) == ["/broken", "/colour", "/size"]


@pytest.mark.parametrize("sent", [{}, {"broken": True}, {"colour": "red"}, {"broken": False, "size": 1.5}])
def test_a_nullable_value_may_be_left_out_and_is_null(sent: dict[str, Any]) -> None:
    rows, expected = RowParser(NULLABLE, 10), [sent.get(name) for name in ("size", "colour", "broken")]
    full = {"size": 2.5, "colour": "blue", "broken": True}

    assert rows.parse(json.dumps(sent).encode()).rows == [expected]
    assert rows.parse(json.dumps({"instances": [sent, full]}).encode()).rows == [expected, [2.5, "blue", True]]
    assert rows._parse_valid(json.dumps({"instances": [sent, full]}).encode()) == [expected, [2.5, "blue", True]]


def test_a_value_that_may_not_be_null_may_not_be_left_out_beside_one_that_may() -> None:
    rows = RowParser(mixed(feature("size", nullable=True), text("colour")), 10)

    assert rows.parse(b'{"colour":"red"}').rows == [[None, "red"]]
    for body in (b'{"size":1}', b'{"instances":[{"colour":"red"},{"size":1}]}', b'{"colour":"red","sise":1}'):
        assert len(pointers(refusal(body, rows))) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("colour", 1), ("broken", 1), ("size", "1"), ("size", float("nan")), ("broken", "null")],
)
def test_a_value_that_may_be_null_is_no_less_strict(name: str, value: Any) -> None:
    row = {"size": None, "colour": None, "broken": None, name: value}

    problem = refusal(json.dumps(row).encode(), RowParser(NULLABLE, 10))

    assert [pointer.split("/")[1] for pointer in pointers(problem)] == [name]


@pytest.mark.parametrize("form", ["%s", '{"instances":[%s]}'])
@pytest.mark.parametrize(
    ("seen", "setting", "longest"),
    [
        # Of a version without this number, and of one trained on short texts.
        (None, None, TEXT_CHARACTERS),
        (7, None, TEXT_CHARACTERS),
        (2_000, None, 20_000),
        (2_000, 300, 300),
        (None, 50_000, 50_000),
    ],
)
def test_a_text_may_be_much_longer_than_in_training(
    form: str, seen: int | None, setting: int | None, longest: int
) -> None:
    colour = text("colour").model_copy(update={"longest": seen})
    rows = RowParser(mixed(feature("size"), colour), 10, setting)

    def body(length: int) -> bytes:
        return (form % json.dumps({"size": 1, "colour": "ü" * length})).encode()

    assert len(rows.parse(body(longest)).rows[0][1]) == longest
    problem = refusal(body(longest + 1), rows)
    [error] = problem.extra["errors"]
    assert error["pointer"].endswith("/colour")
    assert error["detail"] == f"String should have at most {longest} characters, and has {longest + 1}"
    assert "ü" not in problem.body().decode()


@pytest.mark.parametrize("colour", ["instances", '"instances":', '"instances"', "instances:", '{"instances": []}'])
def test_a_text_that_mentions_instances_is_a_value(colour: str) -> None:
    row = {"size": 1, "colour": colour, "broken": True}
    rows = RowParser(MIXED, 10)

    flat = rows.parse(json.dumps(row).encode())
    assert (flat.rows, flat.single) == ([[1.0, colour, True]], True)
    assert not rows.parse(json.dumps({"instances": [row]}).encode()).single


@pytest.mark.parametrize("body", ['{"instances" :%s}', '{ "instances"\n\t: %s }', '{"instances":%s}'])
def test_instances_may_be_written_with_spaces(body: str) -> None:
    assert parser().parse((body % '[{"length":1,"width":2}]').encode()).rows == [[1.0, 2.0]]


def test_every_type_is_documented() -> None:
    one, _ = RowParser(MIXED, 10).json_schema()["oneOf"]
    properties = one["properties"]

    assert [properties[name]["type"] for name in ("size", "colour", "broken")] == ["number", "string", "boolean"]
    assert properties["colour"]["description"] == "In training: red, blue."
    assert properties["broken"]["description"] == "true or false."
    nullable, _ = RowParser(NULLABLE, 10).json_schema()["oneOf"]
    assert "required" not in nullable
    half, _ = RowParser(mixed(feature("size"), text("colour", nullable=True)), 10).json_schema()["oneOf"]
    assert half["required"] == ["size"]
    for name, type_ in (("size", "number"), ("colour", "string"), ("broken", "boolean")):
        assert [each["type"] for each in nullable["properties"][name]["anyOf"]] == [type_, "null"]
        assert nullable["properties"][name]["default"] is None


@pytest.mark.parametrize(
    ("categories", "description"),
    [
        (None, "Any text."),
        ([], "Any text."),
        ([str(i) for i in range(10)], "In training: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."),
        ([str(i) for i in range(11)], "In training: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …."),
    ],
)
def test_a_text_is_described_by_its_categories(categories: list[str] | None, description: str) -> None:
    one, _ = RowParser(mixed(text("colour", categories)), 10).json_schema()["oneOf"]

    assert one["properties"]["colour"]["description"] == description


def test_a_flat_row_of_any_types_is_what_the_parser_takes() -> None:
    for manifest, row in ((MIXED, [1.0, "red", True]), (NULLABLE, [None, None, None])):
        assert RowParser(manifest, 10).parse(json.dumps(flat_row(manifest, row)).encode()).rows == [row]


def test_a_flat_row_may_have_a_feature_called_instances() -> None:
    rows = parser("instances", "other")

    flat = rows.parse(b'{"instances":5,"other":1}')
    assert (flat.rows, flat.single) == ([[5.0, 1.0]], True)
    assert pointers(refusal(b'{"instances":"5","other":1}', rows)) == ["/instances"]
    assert pointers(refusal(b'{"instances":[{"instances":"5","other":1}]}', rows)) == ["/instances/0/instances"]
    assert refusal(b'{"instances":', rows).code == "invalid_json"


VALUES = [*("1", "-0.0", "1.5e3", "1e400", "9" * 30, "9" * 400, "true", "false", "null", "NaN", "-Infinity")]
VALUES += ['"red"', '"1"', '"\\ud800"', "[]", "[1]", "{}", json.dumps("ü" * (TEXT_CHARACTERS + 1))]


@pytest.mark.parametrize("of", [MIXED, NULLABLE], ids=["mixed", "nullable"])
@pytest.mark.parametrize("name", ["size", "colour", "broken"])
def test_the_fast_path_takes_what_the_validator_takes(of: Any, name: str) -> None:
    rows = RowParser(of, 10)
    _, schema = rows._schemas
    validator = SchemaValidator(schema)
    good = {"size": "1", "colour": '"red"', "broken": "true"}
    for value in VALUES:
        row = "{" + ",".join(f'"{key}":{each}' for key, each in {**good, name: value}.items()) + "}"
        body = f'{{"instances":[{row},{row}]}}'.encode()
        try:
            taken = [list(each.values()) for each in validator.validate_json(body)["instances"]]
        except ValidationError:
            assert rows._parse_valid(body) is None, value
        else:
            quick = rows._parse_valid(body)
            assert quick is None or repr(quick) == repr(taken)
            assert repr(rows.parse(body).rows) == repr(taken)
            assert value == "9" * 30 or quick is not None


def named(count: int, value: str = "1") -> str:
    """JSON of an object with so many names that no model has."""
    return "{" + ",".join(f'"{at:x}":{value}' for at in range(count)) + "}"


FULL_OF_MISTAKES: dict[str, Callable[[], str]] = {
    "unknown names": lambda: named(100_000),
    "more unknown names than are parsed": lambda: named(300_000),
    "unknown names beside the instances": lambda: '{"instances":[{"length":1,"width":2}],' + named(100_000)[1:],
    "unknown names in an instance": lambda: '{"instances":[' + named(100_000) + "]}",
    "unknown names in the last instance": lambda: '{"instances":[{"length":1,"width":2},' + named(100_000) + "]}",
    "unknown names in all instances": lambda: '{"instances":[' + ",".join([named(20)] * 5_000) + "]}",
    "empty lists": lambda: '{"instances":[' + ",".join(["[]"] * 1_300_000) + "]}",
    "nested lists": lambda: '{"instances":[' + ",".join(["[[[]]]"] * 300_000) + "]}",
    "too many instances": lambda: '{"instances":[' + ",".join(["1"] * 500_000) + "]}",
    "instances that are no rows": lambda: '{"instances":[' + ",".join(["1"] * 10_000) + "]}",
    "wrong values": lambda: '{"instances":[' + ",".join(['{"length":[],"width":"1"}'] * 10_000) + "]}",
    "instances without values": lambda: '{"instances":[' + ",".join(["{}"] * 10_000) + "]}",
}


@pytest.mark.parametrize("name", FULL_OF_MISTAKES)
def test_a_body_full_of_mistakes_takes_little_more_than_reading_it(name: str) -> None:
    """pydantic-core makes an error of each mistake, which took 25 times as long as reading."""
    body = FULL_OF_MISTAKES[name]().encode()
    rows = parser(rows_max=10_000)
    before = time.process_time()
    json.loads(body)
    read = time.process_time()
    with pytest.raises(InvalidRows) as caught:
        rows.parse(body)
    refused = time.process_time()

    assert refused - read < 5 * (read - before) + 0.15
    assert len(caught.value.mistakes) < 2 * MISTAKES_MAX
    assert len(problem_of(caught.value).body()) < 5_000


@pytest.mark.parametrize(
    "body",
    [
        '{"instances":[' + ",".join(["[]"] * 1_300_000) + "]}",
        '{"x":[' + ",".join(["{}"] * 1_300_000) + "]}",
        named(300_000),
        '{"instances":[' + ",".join(['["é\\",",[[,"]'] * 200_000) + "]}",
        "," * 300_000 + '"' + '\\"' * 1_000_000,
    ],
    ids=["lists", "objects", "names", "texts", "a text that does not end"],
)
@pytest.mark.parametrize("of", [classifier(), MIXED], ids=["numbers", "texts"])
def test_a_body_of_far_more_parts_than_a_request_has_is_refused_unparsed(of: Manifest, body: str) -> None:
    rows, encoded = RowParser(of, 10_000), body.encode()
    before = time.process_time()
    problem = refusal(encoded, rows)

    assert time.process_time() - before < (0.5 if of is MIXED else 0.1)
    assert (problem.code, pointers(problem)) == ("invalid_rows", [""])
    assert "at most 10000 rows of" in problem.extra["errors"][0]["detail"]


def test_a_body_of_many_values_that_are_left_out_is_not_small() -> None:
    wide = RowParser(mixed(*(feature(f"x{at}", nullable=True) for at in range(1000))), 10_000)

    assert wide.is_small(b'{"x1":1}') and parser().is_small(b"{}" * 1_000)
    assert not parser().is_small(named(6_700).encode()), "mistakes take longer than values"
    assert not wide.is_small(b'{"instances":[' + b",".join([b"{}"] * 20) + b"]}")


def test_texts_may_hold_any_number_of_commas_and_brackets() -> None:
    long = text("note", None).model_copy(update={"longest": PARTS_MIN})
    row = {"note": '[,{"\\' * PARTS_MIN + "[" * 2_000, "size": 1}

    assert RowParser(mixed(feature("size"), long), 10).parse(json.dumps(row).encode()).rows == [[1.0, row["note"]]]


def test_names_of_features_may_hold_commas_and_brackets() -> None:
    name = "[" * 60 + "," * 60
    rows = [{name: 1}] * 2_000

    assert len(RowParser(mixed(feature(name)), 2_000).parse(json.dumps({"instances": rows}).encode()).rows) == 2_000


def test_of_more_mistakes_than_are_counted_the_answer_says_so() -> None:
    rows = parser(rows_max=10_000)

    assert (
        refusal(named(2_000).encode(), rows).detail
        == f"at least {MISTAKES_MAX + 2} values do not fit the model's features"
    )
    assert refusal(named(90).encode(), rows).detail == "92 values do not fit the model's features"
    one_each = {"instances": [{"length": 1, "width": None}] * 5_000}
    problem = refusal(json.dumps(one_each).encode(), rows)
    assert problem.detail == f"at least {MISTAKES_MAX} values do not fit the model's features"
    assert pointers(problem)[:2] == ["/instances/0/width", "/instances/1/width"]


def test_the_names_of_the_model_are_seen_among_any_number_of_others() -> None:
    body = named(15_000)[:-1] + ',"width":true,"length":1}'

    with pytest.raises(InvalidRows) as caught:
        parser().parse(body.encode())
    assert caught.value.mistakes[0] == (("width",), "Input should be a valid number")


def test_a_long_flat_row_is_taken_like_a_short_one() -> None:
    note = text("note", None).model_copy(update={"longest": QUICK_ROW_BYTES})
    rows = RowParser(mixed(feature("size"), note), 10)
    row = {"note": "ü" * QUICK_ROW_BYTES, "size": 2**60}

    assert rows.parse(json.dumps(row).encode()).rows == [[2.0**60, row["note"]]]
    assert refusal(json.dumps({**row, "size": "1"}).encode(), rows).extra["errors"] == [
        {"pointer": "/size", "detail": "Input should be a valid number"}
    ]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (b"[]", "", "Input should be an object"),
        (b'{"instances":{}}', "/instances", "Input should be a valid array"),
        (b'{"instances":[[]]}', "/instances/0", "Input should be an object"),
        (b'{"instances":[]}', "/instances", "List should have at least 1 item after validation, not 0"),
    ],
)
def test_mistakes_are_told_in_words_of_json(body: bytes, pointer: str, detail: str) -> None:
    assert refusal(body).extra["errors"] == [{"pointer": pointer, "detail": detail}]


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("character", ["ä", "я", "😀"])
def test_texts_count_with_the_memory_that_they_take(character: str, ensure_ascii: bool) -> None:
    of = RowParser(mixed(text("words"), feature("length")), rows_max=100)
    row = {"words": character + "a" * 9000, "length": 1.0}
    bodies = [json.dumps(each, ensure_ascii=ensure_ascii).encode() for each in ({"instances": [row] * 50}, row)]

    for parsed, rows in zip(map(of.parse, bodies), (50, 1), strict=True):
        taken = sum(sys.getsizeof(value) for each in parsed.rows for value in each)
        assert len(parsed.rows) == rows and taken <= parsed.memory_bytes < 1.1 * taken


@pytest.mark.parametrize("escape", ["", "\\n"])
def test_plain_texts_count_as_their_body(escape: str) -> None:
    of = RowParser(mixed(text("words"), feature("length")), rows_max=100)
    body = json.dumps({"instances": [{"words": "a" * 9000 + escape, "length": 1.0}] * 50}).encode()

    assert len(body) < of.parse(body).memory_bytes < 1.1 * len(body)


def test_rows_without_texts_count_by_their_values() -> None:
    body = json.dumps({"instances": [{"length": 1.0, "width": 2.0}] * 10}).encode()

    assert parser().parse(body).memory_bytes == 10 * (64 + 32 * 2)


@pytest.mark.parametrize("surplus", ['"a":[' + "[]," * 5_000 + "[]]", ",".join(f'"{at}":1' for at in range(1_500))])
def test_missing_names_cost_no_copies_of_the_body(surplus: str) -> None:
    of = parser(*(f"feature {at}" for at in range(300)))
    body = f"{{{surplus}}}".encode()
    tracemalloc.start()
    try:
        problem = refusal(body, of)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert problem.status == 422
    assert most_bytes < 300 * len(body)


def test_of_very_many_missing_names_the_first_are_named() -> None:
    with pytest.raises(InvalidRows) as caught:
        parser(*(f"feature {at}" for at in range(3 * MISTAKES_MAX))).parse(b'{"feature 0":1}')

    assert str(caught.value).startswith(f"at least {MISTAKES_MAX} values")
    assert len(caught.value.mistakes) == MISTAKES_MAX
    assert caught.value.mistakes[0] == (("feature 1",), "Field required")
