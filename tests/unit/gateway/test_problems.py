import json
from typing import Any

import pytest

from gateway import problems as errors
from gateway.problems import Problem


def document(problem: Problem) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(problem.body())
    return content


def test_a_problem_is_a_document_of_rfc_9457() -> None:
    problem = Problem(409, "job_ended", "what happened", {"Retry-After": "1"}, {"rows": [1]})

    response = problem.response()

    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    assert json.loads(bytes(response.body)) == {
        "type": "urn:headrace:problem:job_ended",
        "title": "Conflict",
        "status": 409,
        "detail": "what happened",
        "rows": [1],
    }


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 415, 422, 500, 503, 504])
def test_every_status_in_use_has_a_title(status: int) -> None:
    content = document(Problem(status, "x", "y"))

    assert content["status"] == status
    assert content["title"]


def test_callers_do_not_come_back_all_at_once() -> None:
    waits = {int(errors.overloaded("x", "y", 20).headers["Retry-After"]) for _ in range(300)}

    assert len(waits) > 3
    assert min(waits) >= 20
    assert max(waits) <= 31


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_nor_after_a_short_wait(seconds: float) -> None:
    waits = {int(errors.retry_after(seconds)["Retry-After"]) for _ in range(300)}

    assert len(waits) > 1
    assert min(waits) >= seconds
    assert max(waits) <= 1.5 * seconds + 2
