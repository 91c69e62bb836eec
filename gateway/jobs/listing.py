"""Lists of an owner's jobs, in pages, from the indexes that the job scripts fill."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.broker.redis_client import COMMAND_SECONDS, bounded
from gateway.errors import BrokerUnavailable, RecordDamaged
from gateway.fairness.turns import OwnerTurns
from gateway.jobs.record import Job, attempt_of, seconds_of
from gateway.settings import GatewaySettings
from shared.observability.log_limit import LogLimit
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import OUTCOMES, JobStatus
from shared.queue.job_scripts import script

logger = logging.getLogger(__name__)

READ_TOGETHER = 250
"""Jobs that one call of the script reads at most: half a millisecond, in which Redis does nothing else."""

READ_MAX = 2_000
"""Jobs that are read for one page at most; the next page goes on from there."""

LATE_SECONDS = 3600.0
"""Time by which a job may end later than its expiry, because it was running."""

CURSOR_PATTERN = "^[0-9]{1,9}-[0-9]{1,9}$"
"""Form of a cursor: list of the index, and number of its jobs that are still to be read."""


@dataclass(frozen=True)
class JobFilter:
    """The jobs that a caller asks for; None for any. `since` is a time of acceptance in seconds."""

    status: JobStatus | None = None
    model: str | None = None
    since: float | None = None


@dataclass(frozen=True)
class JobPage:
    """Jobs without their results, and the cursor of the next page; None at the end."""

    jobs: list[Job]
    cursor: str | None


class JobListing:
    """The lists of jobs. A page is read with a bounded number of short calls, however many jobs there are.

    One page is read at a time, with a pause between two that is as long as one took; owners of API keys have them in
    rotation.
    """

    def __init__(self, redis: Redis, clock: BrokerClock, settings: GatewaySettings) -> None:
        self._redis = redis
        self._clock = clock
        self._kept_seconds = settings.job_expiry_seconds + settings.job_retention_seconds + LATE_SECONDS
        self._script = redis.register_script(script("list"))
        self._turns = OwnerTurns(pauses=True, wait_max_seconds=COMMAND_SECONDS)
        self._log_limit = LogLimit(10, 60.0)

    async def page(self, wanted: JobFilter, limit: int, cursor: str | None, owner: str = "") -> JobPage:
        """Return a page: the jobs accepted last first; with an outcome but `succeeded`, those that ended last first.

        A page may have fewer than `limit` jobs, or none, and yet a cursor: if wanted jobs are rare, or have long
        errors.

        Args:
            wanted: the jobs to list.
            limit: most jobs of the page.
            cursor: the cursor of the page before, of the form `CURSOR_PATTERN`; None begins.
            owner: the owner of the jobs.

        Raises:
            BrokerUnavailable: if Redis does not answer.
            Overloaded: if too many pages are asked for.
        """
        place: list[Any] = cursor.split("-") if cursor is not None else ["", ""]
        has_index = wanted.status in OUTCOMES and wanted.status is not JobStatus.SUCCEEDED
        index = wanted.status.value if wanted.status is not None and has_index else "all"
        oldest = self._clock.now() - self._kept_seconds
        since = max(oldest, wanted.since) if wanted.since is not None else oldest
        filters = [since, wanted.status.value if wanted.status else "", wanted.model or ""]
        jobs: list[Job] = []
        async with self._turns.of(owner):
            for _ in range(READ_MAX // READ_TOGETHER):
                args = [index, owner, *place, *filters, limit - len(jobs), READ_TOGETHER]
                place, *found = await self._read(args)
                jobs += self._readable(found)
                if not place or len(jobs) == limit:
                    break
        return JobPage(jobs, "{}-{}".format(*place) if place else None)

    async def _read(self, args: list[Any]) -> list[Any]:
        try:
            answer: Any = await bounded(self._script(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS], args=args))
        except (RedisError, OSError, asyncio.TimeoutError):
            raise BrokerUnavailable() from None
        return list(answer)

    def _readable(self, found: list[Any]) -> list[Job]:
        """Return the jobs that the script has found, without those whose record is damaged."""
        jobs = []
        for job_id, fields in found:
            try:
                job = _job(job_id.decode(), fields)
                # Read here: an outcome that is none must not cost the others their place.
                _ = job.outcome
                jobs.append(job)
            except (ValueError, RecordDamaged):
                end = self._log_limit.admit()
                if end is not None:
                    logger.warning("the record of job %r is damaged, so the job is in no list%s", job_id, end)
        return jobs


def _job(job_id: str, fields: list[bytes | None]) -> Job:
    """Return the job of the fields that list.lua returns."""
    status, model, version, attempt, accepted_at, started_at, ended_at, compute_seconds, dropped, outcome = fields
    return Job(
        id=job_id,
        status=JobStatus((status or b"").decode()),
        model=(model or b"").decode(),
        version=(version or b"").decode(),
        single=False,
        attempt=attempt_of(attempt or b"0"),
        accepted_at=seconds_of(accepted_at or b"0"),
        started_at=_seconds(started_at),
        ended_at=_seconds(ended_at),
        compute_seconds=_seconds(compute_seconds),
        outcome_json=outcome,
        result_dropped=dropped is not None,
    )


def _seconds(value: bytes | None) -> float | None:
    return None if value is None else seconds_of(value)
