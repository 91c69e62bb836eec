import json
import re
from unittest.mock import Mock

import httpx
import pytest

from headrace import Client
from headrace.cli.calls.commands import SUMMARIES
from headrace.cli.calls.outcomes import EXIT_CODES
from tests.support.processes import REPOSITORY
from tests.unit.headrace.cli.calls.gateway import CELLS, FakeGateway
from tests.unit.headrace.cli.versions import run
from tests.unit.headrace.test_package import loaded_by

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, 2) for status in (400, 404, 413, 415, 422)),
        *((status, 3) for status in (401, 403)),
        *((status, 4) for status in (429, 503)),
        *((status, 1) for status in (302, 405, 500, 502)),
        (410, 7),
        (504, 5),
    ],
)
def test_a_problem_has_an_exit_code_of_its_kind(status: int, code: int, gateway: FakeGateway, capsys: Captured) -> None:
    gateway.refuse("POST /models/churn/predict", status, "a_code", rows=[3])

    assert run("predict", "churn", *CELLS) == code
    assert capsys.readouterr() == ("", f"headrace: {status} a_code: a reason (rows 4)\n")

    assert run("predict", "churn", *CELLS, "--json") == code
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    document = json.loads(errors)
    assert (document["type"], document["status"], document["exit_code"]) == (
        "urn:headrace:problem:a_code",
        status,
        code,
    )


def test_the_seconds_to_wait_are_a_member_too(gateway: FakeGateway, capsys: Captured) -> None:
    refused = httpx.Response(503, headers={"Retry-After": "7"}, content=b"<html>")
    gateway.answers["GET /models"] = lambda _: refused

    assert run("models", "--json") == 4
    document = json.loads(capsys.readouterr().err)
    assert (document["type"], document["status"], document["retry_after"]) == ("about:blank", 503, 7.0)


def test_a_missing_page_of_another_server_is_no_unknown_model(gateway: FakeGateway, capsys: Captured) -> None:
    gateway.answers["GET /models"] = lambda _: httpx.Response(404, content=b"<html>")

    assert run("models") == 1
    assert capsys.readouterr().err.startswith("headrace: the answer (404) is not a gateway's: ")


def test_an_error_without_an_answer_is_a_problem_too(gateway: FakeGateway, capsys: Captured) -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    gateway.answers["GET /models"] = lose

    assert run("models") == 4
    assert run("models", "--json") == 4
    line, document = capsys.readouterr().err.splitlines()
    assert line == "headrace: http://127.0.0.1:8000: ConnectError: refused"
    assert json.loads(document) == {
        "type": "urn:headrace:problem:gateway_unreachable",
        "detail": "http://127.0.0.1:8000: ConnectError: refused",
        "exit_code": 4,
    }


def test_ctrl_c_is_one_line(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(Client, "models", Mock(side_effect=KeyboardInterrupt))

    assert run("models") == 130
    assert run("models", "--json") == 130
    line, document = capsys.readouterr().err.splitlines()
    assert line == "headrace: interrupted"
    assert json.loads(document)["type"] == "urn:headrace:problem:interrupted"


@pytest.mark.parametrize("command", SUMMARIES)
def test_the_help_of_a_command_lists_the_exit_codes(command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        run(command, "--help")

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: headrace {command} ")
    assert [meaning for meaning in EXIT_CODES.values() if meaning not in shown] == []


def test_the_documentation_has_the_same_exit_codes() -> None:
    page = (REPOSITORY / "docs" / "command-line.md").read_text()

    assert re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE) == [
        (str(code), meaning) for code, meaning in EXIT_CODES.items()
    ]


def test_the_other_commands_do_not_load_the_client() -> None:
    loaded = loaded_by("from headrace.cli.main import main")

    assert "headrace" in loaded
    assert loaded & {"httpx", "numpy"} == set()


def test_calls_load_no_model_store_and_need_no_extra() -> None:
    loaded = loaded_by("import headrace.cli.main, headrace.cli.calls.caller")

    assert "httpx" in loaded
    assert loaded & {"fsspec", "numpy", "pandas", "sklearn", "joblib"} == set()
