"""The jobs of one task of a pool child: started, claimed, finished or released."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import orjson
import redis
from pydantic import ValidationError

from shared.errors import PredictionError
from shared.queue import keys
from shared.queue.contract import JOB_DAMAGED, RUN_JOBS_TASK, ErrorCode, JobStatus, RunJobsMessage
from shared.queue.entry import read
from shared.queue.job_scripts import script
from shared.queue.replies import Result, failure
from worker.execution.results import sendable

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 0.02
"""Time that the queue entries claimed by a task may take in all, estimated by how long the last task took per entry."""

CLAIMED_AT_MOST = 64
"""Queue entries that a task claims at most."""

CLAIMED_ROWS_BYTES = 65_536
"""Bytes of rows (JSON) of the jobs that a task claims at most."""

DAMAGED_BYTES = 65_536
"""Bytes of damaged rows that are put aside at most."""

DAMAGED = failure(PredictionError(JOB_DAMAGED, "the record of the job was damaged"))


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
    """The carrier of the trace of its submission, as JSON; empty if the submission was not traced."""

    @classmethod
    def from_script(cls, job: str, fields: Any) -> "StartedJob":
        """Read the fields that start.lua and claim.lua return for a job; they check all but the rows.

        Raises:
            ValueError: if the rows are damaged.
        """
        model, version, text, accepted_at, attempt, started_at, trace = fields
        rows: Any = orjson.loads(text)
        if not rows or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise ValueError("no list of rows")
        return cls(
            job,
            model.decode(),
            version.decode(),
            rows,
            float(accepted_at),
            int(attempt),
            float(started_at),
            trace or b"",
        )


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
        self._predicted: Sequence[str] = ()
        """The jobs whose rows the task gave to an estimator last."""
        self._is_asking = False
        """True while a script runs, and still after one that was interrupted or failed."""
        self._began_at = 0.0
        self._n_entries = 1
        self._seconds_per_entry = CLAIM_SECONDS

    def start(self, jobs: Sequence[str], redelivered: bool) -> list[StartedJob]:
        """Begin a task: start an attempt of each of these jobs that may run, and return those."""
        self._began_at = monotonic()
        self._n_entries = 1
        self._unfinished = []
        self._predicted = ()
        replies = self._ask(
            self._start,
            keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, jobs)],
            args=[keys.JOBS_ENDED, self._lease_seconds, int(redelivered), *jobs],
        )
        return self._readable((job, fields) for job, fields in zip(jobs, replies, strict=True) if fields is not None)

    def claim(self, queue: str) -> list[StartedJob]:
        """Take further entries of jobs from the end of a queue that holds the oldest, and start their jobs.

        Entries leave the queue in the script that starts their jobs. If this process dies after that, their jobs are
        released together with the jobs of the task's own entry, or their leases end.
        """
        most = min(CLAIMED_AT_MOST, int(CLAIM_SECONDS / max(self._seconds_per_entry, 1e-6)))
        entries: Any = self._redis.lrange(queue, -most, -1) if most else []
        names: list[str] = []
        args: list[Any] = []
        for entry in reversed(entries):
            jobs = _jobs_of(entry)
            if jobs is None:
                # Celery's consumer takes or discards any other entry.
                break
            names += [keys.job(job) for job in jobs]
            args += [entry, len(jobs), *jobs]
            self._n_entries += 1
        if not args:
            return []
        # The open jobs stand for "no job of its own": Redis lets a worker use no key with an empty name.
        own_job = keys.job(self._unfinished[0]) if self._unfinished else keys.JOBS_OPEN
        replies = self._ask(
            self._claim,
            keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, queue, own_job, *names],
            args=[keys.JOBS_ENDED, self._lease_seconds, CLAIMED_ROWS_BYTES, *args],
        )
        return self._readable((job.decode(), fields) for job, fields in replies)

    def _readable(self, started: Iterable[tuple[str, Any]]) -> list[StartedJob]:
        """Return the jobs that were started; one whose rows are damaged fails alone, and its rows are put aside."""
        readable: list[StartedJob] = []
        for job, fields in started:
            self._unfinished.append(job)
            try:
                readable.append(StartedJob.from_script(job, fields))
            except ValueError:
                logger.error("the rows of job %s are damaged: it fails", job)
                rows: bytes = fields[2]
                reason = f"{keys.job(job)}: its rows are unreadable\n".encode()
                self._redis.lpush(keys.JOBS_DAMAGED, reason + rows[:DAMAGED_BYTES])
                self.finish([job], [DAMAGED], 0.0)
        return readable

    def note_predicted(self, jobs: Sequence[str]) -> None:
        """Note the jobs whose rows are predicted now: no others are to blame if that ends the task."""
        self._predicted = jobs

    def end_task(self) -> None:
        """End a task: the next one claims by how long this one took per queue entry."""
        self._seconds_per_entry = (monotonic() - self._began_at) / self._n_entries

    def finish(self, jobs: Sequence[str], results: Sequence[Result], compute_seconds: float) -> list[float | None]:
        """Write the outcomes of jobs.

        Returns:
            The time at which each job ended, None if it had an outcome already.
        """
        args: list[Any] = [keys.JOBS_ENDED]
        for job, result in zip(jobs, results, strict=True):
            result, outcome = sendable(result, self._result_max_bytes)
            status = JobStatus.FAILED if "error" in result else JobStatus.SUCCEEDED
            is_rejected = result.get("error", {}).get("code") == ErrorCode.ROW_REJECTED.value
            args += [job, status.value, outcome, compute_seconds, int(is_rejected)]
        reply = self._ask(self._finish, keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, jobs)], args=args)
        finished = set(jobs)
        self._unfinished = [job for job in self._unfinished if job not in finished]
        ended_at, written = float(reply[0]), reply[1:]
        if n_refused := written.count(0):
            logger.info("%d of %d jobs had their outcome already", n_refused, len(jobs))
        if n_without_room := written.count(2):
            logger.error("Redis had no memory for the outcomes of %d jobs: they have failed", n_without_room)
        return [ended_at if is_written else None for is_written in written]

    def _ask(self, run: Any, **what: Any) -> Any:
        self._is_asking = True
        reply = run(**what)
        self._is_asking = False
        return reply

    def fail(self, result: Result) -> None:
        """Finish the only unfinished job of this task if it was predicted; release others, to run one by one.

        A job is released too if the task ended while Redis was asked, or while other jobs were predicted or counted,
        because then the job itself was not to blame. Jobs that this task has not started are left alone: another
        process may be running them.
        """
        unfinished, self._unfinished = self._unfinished, []
        self.end_task()
        if len(unfinished) == 1 and unfinished[0] in self._predicted and not self._is_asking:
            self.finish(unfinished, [result], 0.0)
        elif unfinished:
            reason = "while Redis was asked" if self._is_asking else "together"
            code = result["error"]["code"]
            logger.warning("%d jobs failed as %s %s: they will run again", len(unfinished), code, reason)
            self._release(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, unfinished)], args=unfinished)


def _jobs_of(entry: bytes) -> list[str] | None:
    """Return the ids of the jobs of a queue entry; None if it is no entry of jobs, or was redelivered."""
    found = read(entry)
    if found is None or found.task != RUN_JOBS_TASK or found.redelivered:
        return None
    try:
        return RunJobsMessage.model_validate_json(found.payload).jobs
    except ValidationError:
        return None
