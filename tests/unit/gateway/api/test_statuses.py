import json
from typing import Any

import pytest

from gateway import errors
from gateway.api import statuses
from gateway.api.statuses import problem_of, problem_of_result
from gateway.errors import InvalidRows, LoadError, RequestError
from gateway.problems import Problem
from shared.queue.contract import ErrorCode


def document(problem: Problem) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(problem.body())
    return content


def concrete(base: type[RequestError]) -> set[type[RequestError]]:
    below = base.__subclasses__()
    return set().union(*map(concrete, below)) if below else {base}


def test_every_error_of_the_rooms_has_a_status() -> None:
    assert concrete(RequestError) == set(statuses.STATUSES)


@pytest.mark.parametrize(
    ("error", "status", "code", "title", "detail"),
    [
        (errors.QueueFull("x", 0.01), 503, "queue_full", "Service Unavailable", "x"),
        (errors.QuotaExceeded("x", 0.01), 429, "quota_exceeded", "Too Many Requests", "x"),
        (errors.Overloaded("x", 3.0), 503, "overloaded", "Service Unavailable", "x"),
        (
            errors.BrokerUnavailable(),
            503,
            "broker_unavailable",
            "Service Unavailable",
            "the queue can't be reached at the moment",
        ),
        (errors.NoWorker(), 503, "no_worker", "Service Unavailable", "no worker is running"),
        (
            errors.ModelUnavailable(),
            503,
            "model_unavailable",
            "Service Unavailable",
            "this version can't be read: `headrace verify` says why",
        ),
        *(
            (
                errors.DeadlineExceeded(seconds),
                504,
                "deadline_exceeded",
                "Gateway Timeout",
                f"no prediction within {text} s",
            )
            for seconds, text in [
                (2.0, "2"),
                (1 / 3, "0.333"),
                (1e-6, "0.000001"),
                (1e-300, "0.000001"),
                (1200.0, "1200"),
            ]
        ),
    ],
)
def test_what_may_pass_says_when_to_come_back(
    error: RequestError, status: int, code: str, title: str, detail: str
) -> None:
    problem = problem_of(error)

    assert document(problem) == {
        "type": f"urn:headrace:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    assert list(problem.headers) == ["Retry-After"]
    least = error.retry_after_seconds if isinstance(error, LoadError) else statuses.STATUSES[type(error)][2]
    assert least is not None
    assert max(1, least) <= int(problem.headers["Retry-After"]) <= 1.5 * least + 2


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.UnknownModel("iris"), 404, "unknown_model"),
        (errors.IdempotencyKeyReused(), 422, "idempotency_key_reused"),
        (errors.RecordDamaged(), 500, "job_damaged"),
        (errors.InvalidJson("expected value at line 1 column 12"), 400, "invalid_json"),
    ],
)
def test_what_stays_wrong_does_not_ask_for_another_try(error: RequestError, status: int, code: str) -> None:
    problem = problem_of(error)

    assert (problem.status, problem.code, problem.detail) == (status, code, str(error))
    assert (problem.headers, problem.extra) == ({}, {})


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_of_the_queue_has_a_status(code: ErrorCode) -> None:
    assert code.value in statuses.STATUS_OF_CODE

    problem = problem_of_result({"code": code.value, "message": "what a worker said", "rows": [0, 2]})

    # The caller can do something about these.
    at_least = 400 if code in (ErrorCode.RESULT_TOO_LARGE, ErrorCode.ROW_REJECTED) else 500
    assert problem.status == statuses.STATUS_OF_CODE[code.value] >= at_least
    assert document(problem)["detail"] == "what a worker said"
    assert document(problem)["rows"] == [0, 2]
    assert ("Retry-After" in problem.headers) == (problem.status in (503, 504))


def test_an_error_that_a_newer_worker_made_up_is_500() -> None:
    problem = problem_of_result({"code": "unheard_of", "message": "m", "rows": []})

    assert (problem.status, problem.code, problem.extra) == (500, "unheard_of", {})


def test_many_failing_rows_are_cut() -> None:
    problem = problem_of_result({"code": "row_rejected", "message": "m", "rows": list(range(1000)), "count": 5000})

    assert (problem.status, problem.extra["count"]) == (422, 5000)
    assert problem.extra["rows"] == list(range(statuses.ERRORS_SHOWN))


@pytest.mark.parametrize(
    ("name", "pointer"),
    [
        ("a/b", "/a~1b"),
        ("a~b", "/a~0b"),
        ("~1", "/~01"),
        ("//", "/~1~1"),
        ("", "/"),
        ("x" * 64, "/" + "x" * 64),
        ("x" * 65, "/" + "x" * 64),
        # Cut before it is escaped: half an escape would be no pointer.
        ("~" * 100, "/" + "~0" * 64),
        ("ü" * 100, "/" + "ü" * 64),
    ],
)
def test_names_in_pointers_are_escaped_and_cut(name: str, pointer: str) -> None:
    problem = problem_of(InvalidRows([(("instances", 3, name), "wrong")]))

    assert problem.extra["errors"] == [{"pointer": f"/instances/3{pointer}", "detail": "wrong"}]


@pytest.mark.parametrize(("wrong", "text"), [(1, "1 value does"), (50, "50 values do")])
def test_all_wrong_values_are_counted_and_the_first_are_shown(wrong: int, text: str) -> None:
    problem = problem_of(InvalidRows([((at,), "wrong") for at in range(wrong)]))

    assert (problem.status, problem.code) == (422, "invalid_rows")
    assert problem.detail == f"{text} not fit the model's features"
    assert len(problem.extra["errors"]) == min(wrong, statuses.ERRORS_SHOWN)
