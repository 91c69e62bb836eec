import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from headrace.cli.calls import portions, predictions
from headrace.cli.calls.output import as_json
from headrace.client.errors import UnusableAnswer
from headrace.client.job import Job
from tests.support.hostile_texts import HOSTILE_TEXTS, harmless
from tests.unit.headrace.cli.calls.gateway import CELLS, ROW, FakeGateway, problem
from tests.unit.headrace.cli.versions import run

Captured = pytest.CaptureFixture[str]
MakeFile = Callable[..., str]


@pytest.fixture
def file_of(tmp_path: Path) -> MakeFile:
    """A function that writes so many rows, of which `age` is the number, and returns the path."""

    def write(n_rows: int, **members: Any) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(json.dumps({**ROW, "age": age, **members}) for age in range(n_rows)))
        return str(path)

    return write


def lines(capsys: Captured) -> list[Any]:
    output, errors = capsys.readouterr()
    assert errors == ""
    return [json.loads(line) for line in output.splitlines()]


def test_people_see_the_prediction_first(gateway: FakeGateway, capsys: Captured) -> None:
    assert run("predict", "churn", *CELLS) == 0

    assert capsys.readouterr().out == "stays\n  stays  0.75\n  goes   0.25\nchurn v1, 2.5 ms\n"


def test_many_classes_are_cut_off(gateway: FakeGateway, capsys: Captured) -> None:
    shares = {f"class{number}": number / 100 for number in range(12)}
    gateway.set("POST /models/churn/predict", {"prediction": 5, "probabilities": shares})

    assert run("predict", "churn", *CELLS) == 0

    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["5", "  class11  0.11"] and shown[-2:] == ["  class4   0.04", "  …"]


def test_several_outputs_are_a_table(gateway: FakeGateway, file_of: MakeFile, capsys: Captured) -> None:
    gateway.set("POST /models/churn/predict", {"prediction": {"price": 1.5, "kind": "a"}})
    assert run("predict", "churn", *CELLS) == 0
    assert capsys.readouterr().out == "price  1.5\nkind   a\n"

    gateway.set("POST /models/churn/predict", {"predictions": [{"price": 1.5, "kind": "a"}, {"kind": True}, 7]})
    assert run("predict", "churn", "--file", file_of(3)) == 0
    assert capsys.readouterr().out == "price  kind\n1.5    a\nnull   true\n7\n"


def test_many_predictions_are_a_table_with_their_probabilities(
    gateway: FakeGateway, file_of: MakeFile, capsys: Captured
) -> None:
    shares = [{"true": 0.875, "false": 0.125}, {"true": 0.25, "false": 0.75}]
    gateway.set("POST /models/churn/predict", {"predictions": [True, False], "probabilities": shares})

    assert run("predict", "churn", "--file", file_of(2)) == 0

    assert capsys.readouterr().out == "PREDICTION  PROBABILITY\ntrue        0.875\nfalse       0.75\n"


def test_machines_get_the_answer_to_one_row(gateway: FakeGateway, capsys: Captured) -> None:
    assert run("predict", "churn", *CELLS, "--json") == 0

    [answer] = lines(capsys)
    assert answer["prediction"] == "stays"
    assert answer["probabilities"] == {"goes": 0.25, "stays": 0.75}
    assert (answer["model"], answer["version"], answer["timing"]) == ("churn", "v1", {"total_ms": 2.5})


def test_machines_get_a_line_for_each_of_many_rows(gateway: FakeGateway, file_of: MakeFile, capsys: Captured) -> None:
    assert run("predict", "churn", "--file", file_of(2500), "--json") == 0

    assert lines(capsys) == [{"prediction": age, "model": "churn", "version": "v1"} for age in range(2500)]
    assert [len(body["instances"]) for body in gateway.sent] == [1000, 1000, 500]


def test_a_gateway_that_takes_fewer_rows_gets_fewer(gateway: FakeGateway, file_of: MakeFile, capsys: Captured) -> None:
    gateway.rows_max = 300

    assert run("predict", "churn", "--file", file_of(1200), "--json") == 0

    assert [line["prediction"] for line in lines(capsys)] == [*range(1200)]
    assert [len(body["instances"]) for body in gateway.sent] == [1000, 500, 250, 250, 250, 250, 200]


def test_a_body_is_no_larger_than_gateways_take(gateway: FakeGateway, file_of: MakeFile, capsys: Captured) -> None:
    assert run("predict", "churn", "--file", file_of(100, city="x" * 100_000), "--json") == 0

    assert [line["prediction"] for line in lines(capsys)] == [*range(100)]
    assert [len(body["instances"]) for body in gateway.sent] == [38, 38, 24]
    assert max(len(request.content) for request in gateway.requests) < 4_000_000


def test_a_row_that_is_too_large_alone_is_refused(gateway: FakeGateway, file_of: MakeFile, capsys: Captured) -> None:
    gateway.refuse("POST /models/churn/predict", 413, "too_large")

    assert run("predict", "churn", "--file", file_of(5)) == 2
    assert capsys.readouterr() == ("", "headrace: 413 too_large: a reason (in rows 1 to 1)\n")
    assert [len(body["instances"]) for body in gateway.sent] == [5, 2, 1]


def test_an_error_after_some_predictions_says_where(gateway: FakeGateway, file_of: MakeFile, capsys: Captured) -> None:
    def refuse_last(request: httpx.Request) -> httpx.Response:
        ages = [row["age"] for row in json.loads(request.content)["instances"]]
        if 2017 in ages:
            return problem(422, "row_rejected", rows=[17, 18], count=2)
        return httpx.Response(200, json={"predictions": ages})

    gateway.answers["POST /models/churn/predict"] = refuse_last
    path = file_of(2500)

    assert run("predict", "churn", "--file", path) == 2
    output, errors = capsys.readouterr()
    assert output.splitlines() == ["PREDICTION", *map(str, range(2000))]
    assert errors == "headrace: 422 row_rejected: a reason (rows 2018, 2019) (in rows 2,001 to 2,500)\n"

    assert run("predict", "churn", "--file", path, "--json") == 2
    document = json.loads(capsys.readouterr().err)
    assert {name: document[name] for name in ("status", "rows", "first_row", "last_row", "exit_code")} == {
        "status": 422,
        "rows": [17, 18],
        "first_row": 2001,
        "last_row": 2500,
        "exit_code": 2,
    }


@pytest.mark.parametrize(
    "answer",
    [
        {"predictions": [1]},
        {"predictions": [1, 2, 3], "probabilities": [{}]},
        {"predictions": [1, 2, 3], "prediction": 1},
        {"predictions": [1, 2, 3, 4]},
    ],
)
def test_an_answer_to_other_rows_is_none(
    answer: Any, gateway: FakeGateway, file_of: MakeFile, capsys: Captured
) -> None:
    gateway.set("POST /models/churn/predict", answer)

    assert run("predict", "churn", "--file", file_of(3)) == 1

    output, errors = capsys.readouterr()
    assert output == "" and errors.startswith("headrace: the answer (200) is not a gateway's: ")


def test_an_answer_that_is_nested_too_deep_is_no_answer() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]

    with pytest.raises(UnusableAnswer, match="nested too deep"):
        as_json(nested)


@pytest.mark.parametrize("text", [text for text in HOSTILE_TEXTS if "\ud800" not in text])
def test_texts_of_a_gateway_do_not_reach_the_terminal_as_they_are(
    text: str, gateway: FakeGateway, file_of: MakeFile, capsys: Captured
) -> None:
    answer = {"prediction": text, "probabilities": {text: 1.0}, "model": text, "version": text}
    gateway.set("POST /models/churn/predict", answer)
    assert run("predict", "churn", *CELLS) == 0
    output, errors = capsys.readouterr()
    assert harmless(output) and output.count("\n") == 3 and errors == ""

    assert run("predict", "churn", *CELLS, "--json") == 0
    output, errors = capsys.readouterr()
    assert harmless(output) and output.isascii() and output.count("\n") == 1
    assert json.loads(output) == answer

    gateway.refuse("POST /models/churn/predict", 500, text, detail=text)
    assert run("predict", "churn", *CELLS) == 1
    assert run("predict", "churn", *CELLS, "--json") == 1
    output, errors = capsys.readouterr()
    assert output == "" and harmless(errors) and errors.count("\n") == 2
    assert json.loads(errors.splitlines()[1])["detail"] == text


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals_alone(
    gateway: FakeGateway, file_of: MakeFile, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(portions, "PROGRESS_SECONDS", 0.0)
    path = file_of(2500)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr("sys.__stderr__", stream)
        assert run("predict", "churn", "--file", path) == 0

    assert terminal.getvalue() == "\r1,000 of 2,500 rows\r2,000 of 2,500 rows\r2,500 of 2,500 rows\n"
    assert pipe.getvalue() == ""
    assert capsys.readouterr().err == ""


def test_a_submission_prints_the_id_of_its_job(gateway: FakeGateway, capsys: Captured) -> None:
    assert run("submit", "churn", *CELLS, "--idempotency-key", "order-17") == 0
    assert capsys.readouterr() == ("job-0\n", "")
    assert run("submit", *CELLS, "--json") == 0
    assert lines(capsys) == [{"id": "job-1", "rows": 1}]

    assert [*gateway.submitted.values()] == [{"body": ROW, "key": "order-17"}, {"body": ROW, "key": None}]


def test_more_rows_than_a_job_takes_are_several_jobs_with_keys_of_their_own(
    gateway: FakeGateway, file_of: MakeFile, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(predictions, "SUBMITTED_TOGETHER", 100)
    path = file_of(250)

    assert run("submit", "churn", "--file", path, "--idempotency-key", "k", "--json") == 0
    assert lines(capsys) == [{"id": "job-0", "rows": 100}, {"id": "job-1", "rows": 100}, {"id": "job-2", "rows": 50}]
    assert [each["key"] for each in gateway.submitted.values()] == ["k", "k+100", "k+200"]

    assert run("submit", "churn", "--file", path, "--wait") == 0
    assert capsys.readouterr() == ("\n".join(["PREDICTION", *map(str, range(250)), ""]), "")


def test_jobs_whose_results_nobody_has_seen_are_named(
    gateway: FakeGateway, file_of: MakeFile, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(predictions, "SUBMITTED_TOGETHER", 100)
    failed = {"id": "job-1", "status": "failed", "error": {"code": "row_rejected", "message": "no", "rows": [3]}}
    gateway.set("GET /jobs/job-1", failed)
    path = file_of(250)

    assert run("submit", "churn", "--file", path, "--wait") == 6
    output, errors = capsys.readouterr()
    assert output.splitlines() == ["PREDICTION", *map(str, range(100))]
    assert errors == (
        "headrace: job job-1 is failed: row_rejected: no (rows 104) (in rows 101 to 200) "
        "(results not printed: job-1, job-2)\n"
    )

    accept = [httpx.Response(202, json={"id": "job-1"}), problem(429, "quota_exceeded")]
    gateway.answers["POST /models/churn/jobs"] = lambda _: accept.pop(0)
    assert run("submit", "churn", "--file", path, "--wait", "--json") == 4
    document = json.loads(capsys.readouterr().err)
    assert (document["jobs"], document["first_row"], document["exit_code"]) == (["job-1"], 101, 4)


def test_ctrl_c_while_waiting_names_the_job(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(Job, "result", Mock(side_effect=KeyboardInterrupt))

    assert run("submit", "churn", *CELLS, "--wait") == 130
    assert capsys.readouterr().err == "headrace: interrupted (results not printed: job-0)\n"
    assert run("submit", "churn", *CELLS, "--wait", "--json") == 130
    assert json.loads(capsys.readouterr().err)["jobs"] == ["job-1"]


def test_a_job_is_waited_for(gateway: FakeGateway, capsys: Captured) -> None:
    run("submit", "churn", *CELLS)
    capsys.readouterr()

    assert run("wait", "job-0", "--timeout", "5") == 0
    assert capsys.readouterr() == ("stays\nchurn v1\n", "")


def test_results_of_jobs_name_the_model_and_its_version(
    gateway: FakeGateway, file_of: MakeFile, capsys: Captured
) -> None:
    served = {"model": "churn", "version": "v1"}

    assert run("submit", "churn", *CELLS, "--wait", "--json") == 0
    assert lines(capsys) == [{"prediction": "stays", **served}]
    assert run("submit", "churn", "--file", file_of(2), "--wait", "--json") == 0
    assert lines(capsys) == [{"prediction": 0, **served}, {"prediction": 1, **served}]


@pytest.mark.parametrize(
    ("status", "code"), [("failed", 6), ("cancelled", 7), ("expired", 7), ("queued", 5), ("running", 5)]
)
def test_the_exit_code_tells_how_a_job_ended(status: str, code: int, gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /jobs/j1", {"id": "j1", "status": status})

    assert run("wait", "j1", "--timeout", "0.01") == code
    output, errors = capsys.readouterr()
    assert output == "" and errors.startswith(f"headrace: job j1 is {status}") and errors.count("\n") == 1


def test_a_result_that_is_gone_is_told_from_an_unknown_job(gateway: FakeGateway) -> None:
    gateway.refuse("GET /jobs/j1", 410, "result_expired")

    assert run("wait", "j1") == 7
    assert run("wait", "j2") == 2
