"""Load whose every answer is entered in the ledger."""

import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import httpx

from tests.chaos.ledger import Ledger, Question, question

CLIENT_PATIENCE_SECONDS = 10.0
"""Beyond any promise: a call that takes this many seconds hangs, and the ledger records it."""


JOBS_OPEN_EACH = 20
"""Number of jobs that a submitter has open before it waits for the oldest."""


class Client:
    """A caller with a connection of its own."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._ledger = ledger
        self._http = httpx.Client(base_url=url, timeout=CLIENT_PATIENCE_SECONDS, trust_env=False)

    def predict(self, asked: Question, deadline_seconds: float) -> httpx.Response | None:
        """Send POST /predict."""
        sent = time.monotonic()
        response = self._ask("POST", "/predict", json={"instances": asked.rows}, params={"deadline": deadline_seconds})
        self._ledger.predicted(asked, deadline_seconds, sent, response)
        return response

    def submit(self, asked: Question, key: str | None = None) -> str | None:
        """Send POST /jobs; return the job's id if it was accepted."""
        sent = time.monotonic()
        headers = {"Idempotency-Key": key} if key else {}
        response = self._ask("POST", "/jobs", json={"instances": asked.rows}, headers=headers)
        return self._ledger.submitted(asked, sent, response)

    def look_up(self, job_id: str, wait_seconds: float = 0.0) -> bool:
        """Send GET /jobs/{id}; return True if the job has ended."""
        params = {"wait": wait_seconds} if wait_seconds else {}
        return self._ledger.looked_up(job_id, self._ask("GET", f"/jobs/{job_id}", params=params))

    def cancel(self, job_id: str) -> None:
        """Send DELETE /jobs/{id}."""
        self._ledger.cancelled(job_id, self._ask("DELETE", f"/jobs/{job_id}"))

    def status(self, job_id: str) -> str | None:
        """Return the present status of a job without an entry in the ledger."""
        response = self._ask("GET", f"/jobs/{job_id}")
        return response.json()["status"] if response is not None and response.status_code == 200 else None

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError:
            return None


Step = Callable[[Client, random.Random, deque[str]], None]


class Traffic(AbstractContextManager["Traffic"]):
    """Callers and submitters, a thread each, that run while the context lasts."""

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        callers: int = 3,
        submitters: int = 2,
        deadline_seconds: float = 2.0,
        pause_seconds: float = 0.02,
        sleep_seconds: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._stop = threading.Event()
        self._deadline_seconds = deadline_seconds
        self._pause_seconds = pause_seconds
        self._sleep_seconds = sleep_seconds
        # Keys that no other run uses: the same seed asks the same questions.
        self._run_id = uuid.uuid4().hex
        kinds = [self._call] * callers + [self._submit] * submitters
        self._threads = [
            threading.Thread(target=self._run, args=(kind, Client(url, ledger), random.Random(seed + at)), daemon=True)
            for at, kind in enumerate(kinds)
        ]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * CLIENT_PATIENCE_SECONDS)
            assert not thread.is_alive(), "a client hangs"

    def _run(self, step: Step, client: Client, chance: random.Random) -> None:
        jobs: deque[str] = deque()
        try:
            while not self._stop.wait(chance.uniform(0, 2 * self._pause_seconds)):
                step(client, chance, jobs)
        finally:
            client.close()

    def _ask(self, chance: random.Random) -> Question:
        return question(chance.getrandbits(8), self._sleep_seconds if chance.random() < 0.3 else 0.0)

    def _call(self, client: Client, chance: random.Random, _: deque[str]) -> None:
        client.predict(self._ask(chance), self._deadline_seconds)

    def _submit(self, client: Client, chance: random.Random, jobs: deque[str]) -> None:
        if len(jobs) >= JOBS_OPEN_EACH:
            # A backlog from an outage would remain long after it.
            if client.look_up(jobs[0], wait_seconds=0.2):
                jobs.popleft()
            return
        asked = self._ask(chance)
        key = f"{self._run_id} {chance.getrandbits(128)}" if chance.random() < 0.7 else None
        job_id = client.submit(asked, key)
        # Refused or unsure: send the same key again, as a client of an at-least-once service does.
        while key is not None and job_id is None and not self._stop.wait(0.3):
            job_id = client.submit(asked, key)
        if job_id is None:
            return
        jobs.append(job_id)
        if chance.random() < 0.1:
            client.cancel(job_id)
        if chance.random() < 0.3:
            client.look_up(job_id)
