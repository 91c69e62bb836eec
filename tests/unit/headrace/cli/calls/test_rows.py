import json
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.calls import rows
from tests.unit.headrace.cli.calls.gateway import CELLS, DESCRIPTION, ROW, FakeGateway, give_input
from tests.unit.headrace.cli.versions import run

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        (CELLS, ROW),
        (("age=4.5e1", "city=5", "paid=False"), {"age": 45.0, "city": "5", "paid": False}),
        (("age=-7", "city=true", "paid=true"), {"age": -7, "city": "true", "paid": True}),
        (("age=null", "city=null", "paid=true"), {"age": None, "city": "null", "paid": True}),
        (("city=a=b, c", "paid=true"), {"city": "a=b, c", "paid": True}),
        (("city=", "paid=true"), {"city": "", "paid": True}),
    ],
)
def test_a_value_has_the_type_of_its_feature(cells: tuple[str, ...], row: dict[str, Any], gateway: FakeGateway) -> None:
    assert run("predict", "churn", *cells) == 0

    assert gateway.sent == [row]
    assert [type(value) for value in gateway.sent[0].values()] == [type(value) for value in row.values()]


def test_options_may_stand_between_the_words(gateway: FakeGateway) -> None:
    assert run("predict", "churn", "--version", "v1", CELLS[0], "--deadline", "2", *CELLS[1:]) == 0

    assert str(gateway.requests[-1].url).endswith("/models/churn/versions/v1/predict?deadline=2.0")
    assert gateway.sent == [ROW]


@pytest.mark.parametrize("seconds", ["0.0001", "0", "nan", "2s", "1e7"])
def test_a_deadline_that_no_gateway_takes_is_a_wrong_argument(seconds: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        run("predict", "churn", *CELLS, "--deadline", seconds)

    assert caught.value.code == 2
    asked = "argument --deadline: a number of seconds from 0.001 to 1000000, and not"
    assert f"{asked} {seconds!r}" in capsys.readouterr().err


def test_without_a_name_the_types_are_those_of_the_default_model(gateway: FakeGateway) -> None:
    assert run("predict", "city=5", "paid=true") == 0

    assert [request.url.path for request in gateway.requests] == ["/models", "/models/churn", "/predict"]
    assert gateway.sent == [{"city": "5", "paid": True}]


def test_a_name_of_a_feature_may_have_an_equals_sign(gateway: FakeGateway) -> None:
    features = [{"name": "city=Bern", "type": "number"}, {"name": "x", "type": "string"}]
    gateway.set("GET /models/churn", {**DESCRIPTION, "features": features})

    assert run("predict", "churn", "city=Bern=1", "x=a=b") == 0

    assert gateway.sent == [{"city=Bern": 1, "x": "a=b"}]


def test_a_key_that_may_only_predict_sends_values_as_json_has_them(gateway: FakeGateway, capsys: Captured) -> None:
    gateway.refuse("GET /models/churn", 403, "forbidden")

    assert run("predict", "churn", "age=42", "city=Bern", "paid=true", "x=null", "y=1_0", "z=007") == 0

    assert gateway.sent == [{"age": 42, "city": "Bern", "paid": True, "x": None, "y": "1_0", "z": 7}]


def test_csv_needs_the_types(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    gateway.refuse("GET /models/churn", 403, "forbidden")
    give_input(monkeypatch, b"age\n1\n")

    assert run("predict", "churn", "--file", "-", "--format", "csv") == 2
    assert "CSV needs the types" in capsys.readouterr().err
    assert gateway.sent == []


CSV = '\ufeffcity,age,paid\r\nBern,42,true\r\n"a ""b"",\n5",4.5,False\r\n\r\n,,TRUE\r\n'

CSV_ROWS = [ROW, {"age": 4.5, "city": 'a "b",\n5', "paid": False}, {"age": None, "city": None, "paid": True}]


def test_cells_of_csv_have_types_and_may_be_missing(gateway: FakeGateway, tmp_path: Path) -> None:
    path = tmp_path / "rows.CSV"
    path.write_text(CSV, newline="")

    assert run("predict", "churn", "--file", str(path)) == 0

    assert gateway.sent == [{"instances": CSV_ROWS}]


@pytest.mark.parametrize(
    ("name", "text", "body"),
    [
        ("rows.json", json.dumps(ROW), ROW),
        ("rows.json", json.dumps([ROW, ROW]), {"instances": [ROW, ROW]}),
        ("rows.json", json.dumps({"instances": [ROW]}), {"instances": [ROW]}),
        ("rows.jsonl", f"{json.dumps(ROW)}\n\n{json.dumps(ROW)}", {"instances": [ROW, ROW]}),
        ("rows.ndjson", f"\ufeff{json.dumps(ROW)}\r\n", {"instances": [ROW]}),
    ],
)
def test_json_is_read_as_it_is(name: str, text: str, body: Any, gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, newline="")

    assert run("predict", "churn", "--file", str(tmp_path / name)) == 0

    assert gateway.sent == [body]


def test_the_standard_input_is_a_file(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    give_input(monkeypatch, CSV.encode())

    assert run("predict", "churn", "--file", "-", "--format", "csv") == 0
    assert gateway.sent == [{"instances": CSV_ROWS}]


HEAD = "age,city,paid\n1,Bern,true\n"
HEADER = "the first line must name the features, with commas between them, and it is"


@pytest.mark.parametrize(
    ("form", "text", "complaint"),
    [
        ("csv", f"{HEAD}young,Bern,true\n", "row 2, column 'age': 'young' is no number"),
        ("csv", f"{HEAD}{'9' * 500},Bern,true\n", "row 2, column 'age': it is no number that float64 holds"),
        ("csv", f"{HEAD}99999999999999999999,Bern,true\n", "row 2, column 'age': 99999999999999999999 is too large"),
        ("csv", f"{HEAD}1e999,Bern,true\n", "row 2, column 'age': it is no number that float64 holds"),
        ("csv", f"{HEAD}nan,Bern,true\n", "row 2, column 'age': 'nan' is no number"),
        ("csv", f"{HEAD}true,Bern,true\n", "row 2, column 'age': True is no number"),
        ("csv", f"{HEAD}1_0,Bern,true\n", "row 2, column 'age': '1_0' is no number"),
        ("csv", f"{HEAD}1,Bern,1\n", "row 2, column 'paid': 1 is no boolean"),
        ("csv", f"{HEAD}1,Bern,\n", "row 2, column 'paid': it is missing, and the model takes no missing values here"),
        ("csv", f"{HEAD}1,Bern\n", "row 2 has 2 cells, and the first line 3 columns"),
        ("csv", f"{HEAD}1,Bern,true,\n", "row 2 has 4 cells, and the first line 3 columns"),
        ("csv", f'{HEAD}1,"Bern,true\n', "row 2: the CSV can't be read: "),
        ("csv", f"{HEAD}1,{'x' * 140_000},true\n", "row 2: the CSV can't be read: "),
        ("csv", "age,age,paid\n1,1,true\n", "row 1 has 'age' twice"),
        ("csv", "age,town\n1,2\n", "row 1, column 'town': the model has no such feature; it has age, city, paid"),
        ("csv", "age;city;paid\n1;Bern;true\n", f"{HEADER} 'age;city;paid'; the model has age, city, paid\n"),
        ("csv", "42,Bern,true\n", f"{HEADER} '42,Bern,true'; the model has age, city, paid\n"),
        ("csv", "42,Bern,true\n" * 2, f"{HEADER} '42,Bern,true'; the model has age, city, paid\n"),
        ("csv", "age,city\n1,Bern\n", "row 1, column 'paid': it has no value"),
        ("csv", "age,city,paid\n", "- has no rows"),
        ("csv", "", "- has no rows"),
        ("json", "[]", "- has no rows"),
        ("json", "5", "the JSON is neither an object nor a list of objects"),
        ("json", "[5]", "row 1 is no object of feature names and values"),
        ("json", '[{"paid": true}, {"paid": "yes"}]', "row 2, column 'paid': 'yes' is no boolean"),
        ("json", '{"paid": true, "city": 5}', "row 1, column 'city': 5 is no string"),
        ("json", '{"paid": true, "age": []}', "row 1, column 'age': [] is no number"),
        ("json", '{"paid": true, "age": NaN}', "it is no JSON: NaN is no JSON"),
        ("json", '{"paid": true, "paid": false}', "it is no JSON: an object has a name twice"),
        ("json", '[{"paid": true, "city": "\\ud800"}]', "row 1 can't be sent as JSON: "),
        ("json", "[" * 100_000, "- is nested too deep"),
        ("json", '{"paid": true', "it is no JSON: "),
        ("jsonl", '{"paid": true}\n{"paid"}', "line 2: it is no JSON: "),
    ],
)
def test_a_bad_cell_is_one_line_before_any_row_is_sent(
    form: str, text: str, complaint: str, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    give_input(monkeypatch, text.encode())

    assert run("predict", "churn", "--file", "-", "--format", form) == 2

    output, errors = capsys.readouterr()
    assert (output, gateway.sent) == ("", [])
    assert errors.startswith(f"headrace: {complaint}") and errors.count("\n") == 1 and len(errors) < 250


def test_a_closed_input_is_a_wrong_argument(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("sys.stdin", None)

    assert run("predict", "churn", "--file", "-", "--format", "csv") == 2
    assert capsys.readouterr().err == "headrace: there is no standard input\n"


@pytest.mark.parametrize("text", ['{"x": {"y": 99999999999999999999}}', '{"\\ud800": 1}'])
def test_a_row_that_json_can_not_have_is_refused_without_types_too(
    text: str, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    gateway.refuse("GET /models/churn", 403, "forbidden")
    give_input(monkeypatch, f"[{text}, {text}]".encode())

    assert run("predict", "churn", "--file", "-", "--format", "json") == 2
    assert capsys.readouterr().err.startswith("headrace: row 1 can't be sent as JSON: ")
    assert gateway.sent == []


def test_a_file_that_is_no_text_is_refused(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    give_input(monkeypatch, b"age\n\xff\n")

    assert run("predict", "churn", "--file", "-", "--format", "csv") == 2
    assert capsys.readouterr().err == "headrace: - is not UTF-8\n"


def test_an_input_without_end_is_refused(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(rows, "FILE_BYTES_MAX", 1000)

    assert run("predict", "churn", "--file", "/dev/zero", "--format", "csv") == 2
    assert capsys.readouterr().err == "headrace: /dev/zero is larger than 1,000 bytes: split it\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "no rows: give FEATURE=VALUE ..., or --file"),
        (("churn",), "no rows: give FEATURE=VALUE ..., or --file"),
        (("churn", "age=1", "--file", "rows.csv"), "a row and --file: give one of them"),
        (("--version", "v1", "age=1"), "--version needs NAME: versions belong to a model"),
        (("churn", "age=1", "wine"), "'wine' is no value of a row: write it as name=value"),
        (
            ("churn", "--file", "rows.txt"),
            "rows.txt: its name does not say its format: add --format csv, json or jsonl",
        ),
        (("churn", "--file", "-"), "-: its name does not say its format: add --format csv, json or jsonl"),
        (("churn", "--file", "nowhere.csv"), "nowhere.csv: No such file or directory"),
        (("churn", "--file", "/", "--format", "csv"), "/: Is a directory"),
        (("churn", "age=1", "age=2"), "row 1 has 'age' twice"),
        (("churn", "paid=yes"), "row 1, column 'paid': 'yes' is no boolean"),
        (
            ("churn", "paid=true", "agee=1"),
            "row 1, column 'agee': the model has no such feature; it has age, city, paid",
        ),
        (("churn", "age=1"), "row 1, column 'paid': it has no value"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "submit"])
def test_wrong_arguments_are_one_line(
    command: str, words: tuple[str, ...], complaint: str, gateway: FakeGateway, capsys: Captured
) -> None:
    assert run(command, *words) == 2

    assert capsys.readouterr() == ("", f"headrace: {complaint}\n")
    assert gateway.sent == []
