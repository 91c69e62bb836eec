"""The records of jobs as callers read them: those of the caller alone, and a large outcome only within limits."""

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.broker.redis_client import COMMAND_SECONDS, bounded
from gateway.errors import BrokerUnavailable, RecordDamaged
from gateway.fairness.turns import OwnerTurns
from gateway.jobs.record import FIELDS, OUTCOME, Job, Record, job_of
from gateway.jobs.waiters import JobWaiters
from shared.queue import keys
from shared.queue.job_scripts import script

READ_TOGETHER = 4
"""Records that are read at a time, so that a crowd of callers needs few connections."""

Hold = Callable[[int], None]
"""Counts an answer of so many bytes at least before they are read, or raises the refusal of the request."""


class JobReader:
    """The records of jobs. Owners of API keys read in rotation, and each large outcome counts before it is read."""

    def __init__(self, redis: Redis, small_bytes: int) -> None:
        """Take Redis, and the size up to which outcomes do not count."""
        self._script = redis.register_script(script("read"))
        self._small_bytes = small_bytes
        self._turns = OwnerTurns(READ_TOGETHER, wait_max_seconds=COMMAND_SECONDS)
        self.waiters = JobWaiters(self._read)
        """The callers that wait for outcomes."""

    async def get(self, job_id: str, owner: str = "", hold: Hold = lambda _: None) -> Job | None:
        """Return the record of a job; None if the id is unknown, aged out or another owner's.

        Args:
            job_id: the job's id.
            owner: owner of the caller's API key.
            hold: called with the size of an outcome that is not small before the outcome is read.

        Raises:
            BrokerUnavailable: if Redis does not answer.
            Overloaded: if too many records are being read.
            RecordDamaged: if the record can't be read.
        """
        return await self._complete(_job(job_id, await self._read(job_id, owner), owner), owner, hold)

    async def wait(self, job_id: str, seconds: float, owner: str = "", hold: Hold = lambda _: None) -> Job | None:
        """Return the record of a job once it has its outcome, or as it is when the time is over.

        Args, results and errors are those of `get`.
        """
        return await self._complete(await self.waiters.wait(job_id, seconds, owner), owner, hold)

    async def _complete(self, job: Job | None, owner: str, hold: Hold) -> Job | None:
        """Return the job with its outcome, also if that is large."""
        if job is None or job.unread_bytes == 0:
            return job
        hold(job.unread_bytes)
        return _job(job.id, await self._read(job.id, owner, job.unread_bytes), owner)

    async def _read(self, job_id: str, owner: str, outcome_max_bytes: int = 0) -> Record | None:
        """Return a job's record, None if Redis does not answer.

        An outcome is left out that is neither small nor within `outcome_max_bytes`. Another owner's record is read no
        further than an unknown one, so that the time of the answer does not tell that it exists.

        Raises:
            Overloaded: if there is no turn to read.
            RecordDamaged: if the key holds something else.
        """
        async with self._turns.of(owner):
            try:
                return await bounded(self._record(keys.job(job_id), owner, outcome_max_bytes))
            except ResponseError as error:
                if "WRONGTYPE" in str(error):
                    raise RecordDamaged() from None
                return None
            except (RedisError, OSError, asyncio.TimeoutError):
                return None

    async def _record(self, key: str, owner: str, outcome_max_bytes: int) -> Record:
        most = max(self._small_bytes, outcome_max_bytes)
        found: Any = await self._script(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, key], args=[owner, most, *FIELDS])
        unread_bytes, *values = found or [0]
        record = {name: value for name, value in zip((*FIELDS, OUTCOME), values, strict=False) if value is not None}
        return {**record, b"unread_bytes": b"%d" % unread_bytes} if unread_bytes else record


def _job(job_id: str, record: Record | None, owner: str) -> Job | None:
    if record is None:
        raise BrokerUnavailable()
    return job_of(job_id, record, owner)
