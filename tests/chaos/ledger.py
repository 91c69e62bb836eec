"""The requests of the clients and their answers: every request is checked as its answer arrives, then forgotten."""

import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.puppet import Act

ANSWER_SLACK_SECONDS = 0.25
"""Longest delay of an answer after its deadline, in seconds: the promise that docs/guarantees.md makes."""

SUBMIT_SECONDS = 2.0
"""Longest time in seconds until a submission is accepted or refused, whatever the broker does."""

VIOLATIONS_KEPT = 20
BITS = 8
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Question:
    """Rows with a known answer that hardly any other question has: the bits of a number."""

    rows: list[dict[str, float]]
    predictions: list[str]


def question(number: int, sleep_seconds: float = 0.0) -> Question:
    """Return the question of a number, over which the model sleeps for this time."""
    bits = [number >> at & 1 for at in range(BITS)]
    rows: list[dict[str, float]] = [{"value": 1 if bit else -1, "act": Act.ANSWER} for bit in bits]
    predictions = ["high" if bit else "low" for bit in bits]
    if sleep_seconds:
        rows.append({"value": sleep_seconds, "act": Act.SLEEP})
        predictions.append("high")
    return Question(rows, predictions)


def deed(act: Act, value: float) -> Question:
    """Return one row that makes the model do something; its answer, if there is one, is `high`."""
    return Question([{"value": value, "act": act}], ["high"])


class Lateness:
    """A thread that measures how late this machine runs threads, so that the service is not blamed for the machine."""

    TICK_SECONDS = 0.01

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=30_000)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lateness", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(self.TICK_SECONDS):
            now = time.monotonic()
            late = now - before - self.TICK_SECONDS
            if late > self.TICK_SECONDS:
                self._seen.append((now, late))
            before = now

    def worst(self, since: float) -> float:
        """Return the longest delay that ended after a time, in seconds."""
        worst = 0.0
        for at, late in reversed(self._seen.copy()):
            if at < since:
                break
            worst = max(worst, late)
        return worst

    def lost(self, since: float) -> float:
        """Return the sum of all delays that ended after a time, in seconds: several processes may have waited so."""
        return sum(late for at, late in self._seen.copy() if at >= since)

    def close(self) -> None:
        """Stop measuring."""
        self._stop.set()
        self._thread.join(5)


class Ledger:
    """The ledger of one run.

    It is bounded: answered calls leave only counts, and jobs leave their questions until their outcome was checked.
    """

    def __init__(self, lateness: Lateness) -> None:
        self._lateness = lateness
        self._lock = threading.Lock()
        self._violations: list[str] = []
        self.violations_count = 0
        self.answers: Counter[str] = Counter()
        """`<kind> <status>`, with the code of a problem, -> number of answers; status 0: the connection was lost."""
        self.outcomes: Counter[str] = Counter()
        self.open_jobs: dict[str, Question] = {}
        """Jobs that were accepted and are not known to have ended."""
        self._cancelled: set[str] = set()
        self.perhaps_forgotten: set[str] = set()
        """Jobs that were deleted with 204, or with an answer that was lost: they may be unknown."""
        self.ended: deque[tuple[str, str]] = deque(maxlen=2000)
        """The latest ended jobs with their outcomes."""
        self.accepted = 0
        self.unsure = 0
        """Number of submissions that were not answered with 202 and may have been accepted nevertheless."""
        self.repeats = 0
        """Number of executions beyond the first of each job."""
        self.slowest_seconds = 0.0
        self.connections_may_break = False
        """Set by a row that ends the gateway or disconnects its own clients."""
        self.jobs_may_fail = False
        """Set by a row whose jobs can't succeed or are killed again and again."""
        self.jobs_may_vanish = False
        """Set by rows that lose what the broker holds, which is the documented loss."""
        self.vanished = 0
        """Number of accepted jobs that were unknown when they were looked up."""

    @property
    def violations(self) -> list[str]:
        """The first violations, as texts."""
        with self._lock:
            return list(self._violations)

    def violated(self, invariant: str, what: str) -> None:
        """Record the violation of an invariant."""
        with self._lock:
            self.violations_count += 1
            if len(self._violations) < VIOLATIONS_KEPT:
                self._violations.append(f"{invariant}: {what}")

    def _count(self, what: str, response: httpx.Response | None) -> None:
        status = response.status_code if response is not None else 0
        code = re.search("urn:headrace:problem:[a-z_]+", response.text) if response is not None else None
        with self._lock:
            self.answers[f"{what} {status} {code[0]}" if code else f"{what} {status}"] += 1

    def predicted(self, asked: Question, deadline_seconds: float, sent: float, response: httpx.Response | None) -> None:
        """Record the answer to a synchronous call.

        `sent` is of `time.monotonic()`, None as response is a broken connection.
        """
        took = time.monotonic() - sent
        self._count("predict", response)
        self._check_answer("predict", response, sent, took, deadline_seconds + ANSWER_SLACK_SECONDS)
        if response is not None and response.status_code == 200:
            self.slowest_seconds = max(self.slowest_seconds, took)
            if response.json()["predictions"] != asked.predictions:
                self.violated("I4", f"a call was answered {response.json()['predictions']}, not {asked.predictions}")

    def submitted(self, asked: Question, sent: float, response: httpx.Response | None) -> str | None:
        """Record the answer to a submission; return the job's id if it was accepted."""
        took = time.monotonic() - sent
        self._count("submit", response)
        self._check_answer("submit", response, sent, took, SUBMIT_SECONDS + ANSWER_SLACK_SECONDS)
        if response is None or response.status_code != 202:
            with self._lock:
                self.unsure += 1
            return None
        job_id: str = response.json()["id"]
        with self._lock:
            if "idempotent-replayed" not in response.headers:
                self.accepted += 1
            self.open_jobs[job_id] = asked
        return job_id

    def looked_up(self, job_id: str, response: httpx.Response | None) -> bool:
        """Record the answer to a look-up of a job; return True if the job is known to have ended."""
        if response is None:
            return False
        self._count("poll", response)
        if response.status_code == 404:
            with self._lock:
                forgotten = job_id in self.perhaps_forgotten
                self.vanished += self.open_jobs.pop(job_id, None) is not None and not forgotten
            if not self.jobs_may_vanish and not forgotten:
                self.violated("I2", f"job {job_id} was accepted and is unknown")
            return True
        if response.status_code != 200:
            self._check_problem("poll", response)
            return False
        return self._take_view(job_id, response.json())

    def cancelled(self, job_id: str, response: httpx.Response | None) -> None:
        """Record the answer to a deletion: after 200 the job is cancelled for good, after 204 it is forgotten."""
        if response is None or response.status_code not in (200, 404):
            with self._lock:
                self.perhaps_forgotten.add(job_id)
        if response is None:
            return
        self._count("cancel", response)
        if response.status_code == 200:
            with self._lock:
                if job_id in self.open_jobs:
                    self._cancelled.add(job_id)
        elif response.status_code == 404 and job_id in self.perhaps_forgotten:
            return
        elif response.status_code != 204:
            self._check_problem("cancel", response)

    def _take_view(self, job_id: str, view: dict[str, Any]) -> bool:
        status = view["status"]
        if status in ("queued", "running"):
            return False
        with self._lock:
            asked = self.open_jobs.pop(job_id, None)
            self.ended.append((job_id, status))
            self.outcomes[status] += 1
            self.repeats += max(0, view["attempt"] - 1)
            cancelled = job_id in self._cancelled
            self._cancelled.discard(job_id)
        if cancelled and status != "cancelled":
            self.violated("I1", f"job {job_id} was cancelled, and is {status}")
        if status in ("failed", "expired") and not self.jobs_may_fail:
            self.violated("I1", f"job {job_id} could have succeeded, and {status}: {view.get('error')}")
        if status == "succeeded" and asked is not None and view["result"]["predictions"] != asked.predictions:
            self.violated("I4", f"job {job_id}: {view['result']['predictions']}, not {asked.predictions}")
        return True

    def _check_answer(
        self, what: str, response: httpx.Response | None, sent: float, took: float, bound_seconds: float
    ) -> None:
        late = took - bound_seconds - self._lateness.worst(sent)
        if late > 0:
            self.violated("I3", f"{what} was answered after {took:.2f} s, {bound_seconds:g} s are promised")
        if response is None:
            if not self.connections_may_break:
                self.violated("I3", f"{what} was not answered: the connection broke after {took:.2f} s")
        elif response.status_code >= 400:
            self._check_problem(what, response)

    def _check_problem(self, what: str, response: httpx.Response) -> None:
        status = response.status_code
        if status == 404 and self.jobs_may_vanish:
            return
        if status < 500 or status == 500:
            self.violated("I5", f"{what}: {status}: {response.text[:200]}")
        elif response.headers.get("content-type") != PROBLEM:
            self.violated("I5", f"{what}: {status} is no problem+json")
        elif "retry-after" not in response.headers:
            self.violated("I5", f"{what}: {status} without Retry-After")
