"""The results of very many jobs, read from their records: looking each up over HTTP would take longer than the run."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import orjson

from shared.queue import keys

READ_TOGETHER = 5000
TOLERANCE = 1e-3
VIOLATIONS_KEPT = 20


class Census:
    """Totals over all records in Redis and all jobs that the clients know."""

    def __init__(self, redis: Any, prediction: Callable[[int], float]) -> None:
        self._redis = redis
        self._prediction = prediction
        self.statuses: Counter[str] = Counter()
        self.repeats = 0
        """Number of executions beyond the first of each job."""
        self.violations: list[str] = []
        """The first violations, as texts."""

    def take(self, job_ids: Iterable[str]) -> None:
        """Read the records of these jobs, in the order of their numbers, and look for other records."""
        unseen = {key.decode() for key in self._redis.scan_iter(match=keys.job("*"), count=READ_TOGETHER)}
        numbered = enumerate(job_ids)
        while together := list(islice(numbered, READ_TOGETHER)):
            with self._redis.pipeline(transaction=False) as pipe:
                for _, job_id in together:
                    pipe.hmget(keys.job(job_id), "status", "attempt", "outcome")
                records = pipe.execute()
            for (number, job_id), record in zip(together, records, strict=True):
                self._count(number, job_id, *record)
                if keys.job(job_id) in unseen:
                    unseen.remove(keys.job(job_id))
                else:
                    self._violated(f"I1: job {number} has no record of its own: {job_id}")
        for key in unseen:
            self._violated(f"I1: nobody knows of {key}")

    def _count(self, number: int, job_id: str, status: bytes | None, attempt: bytes | None, outcome: bytes) -> None:
        if status is None or attempt is None:
            self._violated(f"I2: job {number} was accepted and is unknown: {job_id}")
            return
        self.statuses[status.decode()] += 1
        self.repeats += max(0, int(attempt) - 1)
        if status != b"succeeded":
            self._violated(f"I1: job {number} could have succeeded, and is {status.decode()}: {outcome!r}")
            return
        predictions = orjson.loads(outcome)["predictions"]
        if len(predictions) != 1 or abs(predictions[0] - self._prediction(number)) > TOLERANCE:
            self._violated(f"I4: job {number}: {predictions}, not {self._prediction(number)}")

    def _violated(self, what: str) -> None:
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(what)
