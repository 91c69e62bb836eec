import json
from typing import Any

import httpx
import pytest

from tests.unit.headrace.cli.calls.gateway import FakeGateway, problem
from tests.unit.headrace.cli.versions import run

Captured = pytest.CaptureFixture[str]

VIEW = {
    "id": "j1",
    "status": "running",
    "model": "churn",
    "version": "v1",
    "attempt": 1,
    "accepted_at": "2026-11-27T09:00:00.000Z",
}
FAILED = {**VIEW, "id": "j2", "status": "failed", "error": {"code": "row_rejected", "message": "no\nj9 succeeded"}}


def test_a_job_is_shown_with_its_result(gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /jobs/j1", {**VIEW, "status": "succeeded", "result": {"predictions": [1, 2]}})

    assert run("job", "j1") == 0

    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown[:3] == [["id", "j1"], ["status", "succeeded"], ["model", "churn"]]
    assert shown[-3:] == [["PREDICTION"], ["1"], ["2"]]


def test_showing_a_failed_job_is_no_failure(gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /jobs/j2", FAILED)

    assert run("job", "j2") == 0
    assert capsys.readouterr().out.splitlines()[-1].split(maxsplit=1) == ["error", "row_rejected: no\\nj9 succeeded"]
    assert run("job", "j2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == FAILED


def test_a_job_whose_result_is_gone_is_shown(gateway: FakeGateway, capsys: Captured) -> None:
    view = {**VIEW, "status": "succeeded", "result_expired": True}
    gateway.refuse("GET /jobs/j1", 410, "result_expired", job=view)
    assert run("job", "j1") == 0
    assert "gone: it made room" in capsys.readouterr().out

    gateway.refuse("GET /jobs/j1", 410, "gone")
    assert run("job", "j1") == 7


def test_jobs_are_a_table(gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /jobs", {"jobs": [VIEW, FAILED]})

    options = ("--status", "failed", "--model", "churn", "--since", "2026-11-27T09:00:00Z")
    assert run("jobs", *options) == 0

    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "STATUS", "MODEL", "VERSION", "ACCEPTED", "ERROR"]
    assert first.split() == ["j1", "running", "churn", "v1", "2026-11-27T09:00:00.000Z"]
    assert second.endswith("row_rejected: no\\nj9 succeeded")
    parameters = gateway.requests[0].url.params
    assert (parameters["status"], parameters["model"]) == ("failed", "churn")
    assert parameters["since"].startswith("2026-11-2")


def test_jobs_of_many_pages_end_at_the_limit(gateway: FakeGateway, capsys: Captured) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("cursor", 0))
        listed: list[dict[str, Any]] = [{"id": f"j{number}-{at}"} for at in range(150)]
        return httpx.Response(200, json={"jobs": listed, "next": str(number + 1)})

    gateway.answers["GET /jobs"] = page
    assert run("jobs", "--limit", "310", "--json") == 0
    printed = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert printed == [f"j{number}-{at}" for number in range(3) for at in range(150)][:310]
    assert len(gateway.requests) == 3

    assert run("jobs", "--limit", "310") == 0
    assert len(capsys.readouterr().out.splitlines()) == 311


def test_no_jobs_are_said_to_be_none(gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /jobs", {"jobs": []})

    assert run("jobs") == 0
    assert run("jobs", "--json") == 0
    assert capsys.readouterr() == ("no jobs\n", "")


@pytest.mark.parametrize("since", ["yesterday", "0001-01-01T00:00:00", "2026-13-01"])
def test_a_time_that_is_none_is_a_wrong_argument(since: str, gateway: FakeGateway, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        run("jobs", "--since", since, "--limit", "0")

    assert ended.value.code == 2


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_job_is_cancelled(status: str, gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /jobs/j1", {**VIEW, "status": status})
    gateway.set("DELETE /jobs/j1", {**VIEW, "status": "cancelled"})

    assert run("cancel", "j1") == 0
    assert run("cancel", "j1", "--json") == 0

    assert capsys.readouterr().out == 'job j1 is cancelled\n{"id":"j1","status":"cancelled"}\n'
    assert [request.method for request in gateway.requests] == ["GET", "DELETE"] * 2


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("expired", 1), ("cancelled", 0)])
def test_a_job_that_has_ended_stays(status: str, code: int, gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /jobs/j1", {**VIEW, "status": status})

    assert run("cancel", "j1") == code
    assert [request.method for request in gateway.requests] == ["GET"]


def test_a_result_is_not_cancelled(gateway: FakeGateway, capsys: Captured) -> None:
    run("submit", "churn", "paid=true")

    assert run("cancel", "job-0") == 1
    assert capsys.readouterr().err == "headrace: job job-0 is succeeded: it can't be cancelled any more\n"
    gateway.answers["GET /jobs/job-0"] = lambda _: problem(410, "result_expired")
    assert run("cancel", "job-0") == 1
    assert run("cancel", "no-job") == 2
    assert "DELETE" not in [request.method for request in gateway.requests]
