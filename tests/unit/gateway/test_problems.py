import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

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


class Body(BaseModel, extra="forbid"):
    number: float


def invalid(content: Any) -> Problem:
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(ValidationError) as caught:
        Body.model_validate_json(text)
    return errors.invalid_rows(caught.value)


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
    problem = invalid({"number": 1, name: 1})

    assert [item["pointer"] for item in problem.extra["errors"]] == [pointer]


def test_nothing_of_a_value_is_said() -> None:
    problem = invalid({"number": "open sesame"})

    assert problem.status == 422
    assert "sesame" not in problem.body().decode()
    assert set(problem.extra["errors"][0]) == {"pointer", "detail"}


def test_where_it_stops_being_json_is_said_and_nothing_else() -> None:
    problem = invalid('{"number": sesame}')

    assert (problem.status, problem.code) == (400, "invalid_json")
    assert "line 1 column 12" in problem.detail
    assert "sesame" not in problem.detail
