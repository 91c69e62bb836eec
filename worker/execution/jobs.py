"""The jobs of one task of a pool child: started, ended, or given back."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import orjson
import redis
from pydantic import ValidationError

from shared.queue import keys
from shared.queue.contract import RUN_JOBS_TASK, JobStatus, RunJobsMessage
from shared.queue.entry import argument
from shared.queue.job_scripts import script
from shared.queue.replies import Result
from worker.execution.results import too_large

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 0.02
"""How long the messages that a task takes from the queue beside its own may take, by what the last ones took."""

CLAIMED_AT_MOST = 64
"""Messages that a task takes beside its own at most."""

CLAIMED_ROWS_BYTES = 65_536
"""Rows (JSON) of the jobs that a task takes beside its own at most."""


@dataclass(frozen=True)
class StartedJob:
    """A job with an attempt that this process has started."""

    id: str
    model: str
    version: str
    rows: list[Any]
    accepted_at: float
    attempt: int
    started_at: float
    trace: bytes = b""
    """What its record says of its trace; empty if it has none."""


class JobRuns:
    """The transitions of jobs that a pool child causes, each one round trip for many jobs."""

    def __init__(self, client: redis.Redis, lease_seconds: float, result_max_bytes: int) -> None:
        self._redis = client
        self._result_max_bytes = result_max_bytes
        self._lease_seconds = lease_seconds
        self._start = client.register_script(script("start"))
        self._claim = client.register_script(script("claim"))
        self._finish = client.register_script(script("finish"))
        self._release = client.register_script(script("release"))
        self._unfinished: list[str] = []
        self._began = 0.0
        self._n_messages = 1
        self._message_seconds = CLAIM_SECONDS

    def start(self, jobs: Sequence[str], redelivered: bool) -> list[StartedJob]:
        """Begin a task: start an attempt of each of these jobs that may run."""
        self._began = monotonic()
        self._n_messages = 1
        self._unfinished = []
        answers = self._start(
            keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, jobs)],
            args=[keys.JOBS_ENDED, self._lease_seconds, int(redelivered), *jobs],
        )
        started = [_started(job, answer) for job, answer in zip(jobs, answers, strict=True) if answer is not None]
        self._unfinished = [job.id for job in started]
        return started

    def claim(self, queue: str) -> list[StartedJob]:
        """Take further messages of jobs from where the oldest of a queue are, and start their jobs.

        Messages leave the queue in the same script that starts their jobs: if this process then dies, they are released
        with the job that the task came with, or their leases end.
        """
        most = min(CLAIMED_AT_MOST, int(CLAIM_SECONDS / max(self._message_seconds, 1e-6)))
        entries: Any = self._redis.lrange(queue, -most, -1) if most else []
        names: list[str] = []
        args: list[Any] = []
        for entry in reversed(entries):
            jobs = _jobs_of(entry)
            if jobs is None:
                # Something else, which is for Celery's consumer to take or to bury.
                break
            names += [keys.job(job) for job in jobs]
            args += [entry, len(jobs), *jobs]
            self._n_messages += 1
        if not args:
            return []
        # An empty name would be no key that a worker may use.
        task = keys.job(self._unfinished[0]) if self._unfinished else keys.JOBS_OPEN
        answers: Any = self._claim(
            keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, queue, task, *names],
            args=[keys.JOBS_ENDED, self._lease_seconds, CLAIMED_ROWS_BYTES, *args],
        )
        started = [_started(job.decode(), answer) for job, answer in answers]
        self._unfinished += [job.id for job in started]
        return started

    def end_task(self) -> None:
        """The task has run: the next one claims by how long this one took per message."""
        self._message_seconds = (monotonic() - self._began) / self._n_messages

    def finish(self, jobs: Sequence[str], results: Sequence[Result], compute_seconds: float) -> list[float | None]:
        """Write outcomes. Returns when each job ended, None if it had its outcome already."""
        args: list[Any] = [keys.JOBS_ENDED]
        for job, result in zip(jobs, results, strict=True):
            outcome = orjson.dumps(result)
            if len(outcome) > self._result_max_bytes:
                result = too_large()
                outcome = orjson.dumps(result)
            status = JobStatus.FAILED if "error" in result else JobStatus.SUCCEEDED
            args += [job, status.value, outcome, compute_seconds]
        answers: Any = self._finish(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, jobs)], args=args)
        done = set(jobs)
        self._unfinished = [job for job in self._unfinished if job not in done]
        ended_at, written = float(answers[0]), answers[1:]
        refused = written.count(0)
        if refused:
            logger.info("%d of %d jobs had their outcome already", refused, len(jobs))
        return [ended_at if is_written else None for is_written in written]

    def out_of_time(self, result: Result) -> None:
        """End the only job that this task has started and not finished; several are given back, to run one by one.

        What this task has not started is not touched: another process may be at it.
        """
        unfinished, self._unfinished = self._unfinished, []
        self.end_task()
        if len(unfinished) == 1:
            self.finish(unfinished, [result], 0.0)
        elif unfinished:
            logger.warning("%d jobs ran longer than the time limit together: each will run alone", len(unfinished))
            self._release(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, unfinished)], args=unfinished)


def _started(job: str, answer: Any) -> StartedJob:
    model, version, rows, accepted_at, attempt, started_at, trace = answer
    return StartedJob(
        job,
        model.decode(),
        version.decode(),
        orjson.loads(rows),
        float(accepted_at),
        int(attempt),
        float(started_at),
        trace or b"",
    )


def _jobs_of(entry: bytes) -> list[str] | None:
    """The jobs of a queue entry; None if it is something else, or was redelivered."""
    task, payload, redelivered = argument(entry)
    if task != RUN_JOBS_TASK or redelivered:
        return None
    try:
        return RunJobsMessage.model_validate_json(payload).jobs
    except ValidationError:
        return None
