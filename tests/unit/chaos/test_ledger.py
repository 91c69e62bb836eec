"""The ledger finds every kind of broken promise."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.chaos.ledger import PROBLEM, VIOLATIONS_KEPT, Lateness, Ledger, question

ASKED = question(5)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    lateness = Lateness()
    yield Ledger(lateness)
    lateness.close()


def answer(
    status: int = 200, predictions: list[str] | None = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    return httpx.Response(status, json={"predictions": predictions or ASKED.predictions}, headers=headers)


def view(status: str, attempt: int = 1, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"status": status, "attempt": attempt, **more})


def accepted(ledger: Ledger, job_id: str = "a") -> str:
    response = httpx.Response(202, json={"id": job_id})
    assert ledger.submitted(ASKED, time.monotonic(), response) == job_id
    return job_id


def test_questions_are_told_apart_by_their_answers() -> None:
    assert len({tuple(question(number).predictions) for number in range(256)}) == 256


def test_good_answers_are_counted_and_no_more(ledger: Ledger) -> None:
    for _ in range(1000):
        ledger.predicted(ASKED, 1.0, time.monotonic(), answer())

    assert ledger.violations == []
    assert ledger.answers == {"predict 200": 1000}


@pytest.mark.parametrize(
    ("response", "ago_seconds", "invariant"),
    [
        (answer(predictions=question(6).predictions), 0.0, "I4"),
        (answer(), 9.0, "I3"),
        (None, 0.0, "I3"),
        (answer(500), 0.0, "I5"),
        (answer(404), 0.0, "I5"),
        (answer(503, headers={"Retry-After": "1"}), 0.0, "I5"),
        (httpx.Response(503, headers={"content-type": PROBLEM}), 0.0, "I5"),
    ],
    ids=["another's answer", "late", "none", "500", "404", "no problem", "no Retry-After"],
)
def test_an_answer_that_breaks_a_promise(
    ledger: Ledger, response: httpx.Response | None, ago_seconds: float, invariant: str
) -> None:
    ledger.predicted(ASKED, 1.0, time.monotonic() - ago_seconds, response)

    assert [violation[:2] for violation in ledger.violations] == [invariant]


def test_a_refusal_that_says_when_to_come_again_is_fine(ledger: Ledger) -> None:
    headers = {"content-type": PROBLEM, "retry-after": "1"}
    ledger.predicted(ASKED, 1.0, time.monotonic(), httpx.Response(503, headers=headers))
    assert ledger.submitted(ASKED, time.monotonic(), httpx.Response(503, headers=headers)) is None

    assert ledger.violations == []
    assert (ledger.accepted, ledger.unsure) == (0, 1)


@pytest.mark.parametrize(
    ("response", "invariant"),
    [
        (httpx.Response(404), "I2"),
        (view("failed", error={"code": "worker_lost"}), "I1"),
        (view("succeeded", result={"predictions": question(6).predictions}), "I4"),
    ],
    ids=["unknown", "failed", "another's answer"],
)
def test_a_job_that_was_accepted_and_breaks_a_promise(ledger: Ledger, response: httpx.Response, invariant: str) -> None:
    assert ledger.looked_up(accepted(ledger), response)

    assert [violation[:2] for violation in ledger.violations] == [invariant]


def test_a_cancelled_job_that_succeeds(ledger: Ledger) -> None:
    job = accepted(ledger)
    ledger.cancelled(job, view("cancelled"))
    ledger.looked_up(job, view("succeeded", result={"predictions": ASKED.predictions}))

    assert ledger.violations == ["I1: job a was cancelled, and is succeeded"]


def test_a_job_is_forgotten_when_its_outcome_was_checked(ledger: Ledger) -> None:
    job = accepted(ledger)
    assert not ledger.looked_up(job, view("running"))
    assert ledger.looked_up(job, view("succeeded", attempt=3, result={"predictions": ASKED.predictions}))

    assert (ledger.open_jobs, ledger.repeats, ledger.violations) == ({}, 2, [])
    assert list(ledger.ended) == [("a", "succeeded")]


def test_it_keeps_the_first_violations_and_counts_all(ledger: Ledger) -> None:
    for _ in range(100):
        ledger.predicted(ASKED, 1.0, time.monotonic(), None)

    assert (len(ledger.violations), ledger.violations_count) == (VIOLATIONS_KEPT, 100)
