"""The reconciler of overdue jobs: every accepted job reaches an outcome, whatever happened to its queue entry."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from gateway.broker.batch_client import BatchClient
from gateway.broker.workers import Workers
from gateway.jobs.damage import bury_damaged
from gateway.settings import GatewaySettings
from shared.observability.log_limit import LogLimit
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import COMMON_GROUP, Lane, RunJobsMessage, queue_name
from shared.queue.job_scripts import script

logger = logging.getLogger(__name__)

RECONCILE_SECONDS = 1.0
LOCK_SECONDS = 5.0
JOBS_AT_ONCE = 500

GRACE_SECONDS = 2.0
"""Time by which an entry may be older than the job's publication and still be the job's: two clocks are compared."""

CLOCK_SLACK_SECONDS = 60.0
"""Time by which a check may be later than any that a job can have, before Redis' clock counts as set back."""


class Reconciler:
    """The loop that looks after overdue jobs, in the one gateway process that holds the lock."""

    def __init__(
        self,
        redis: Redis,
        batch_client: BatchClient,
        workers: Workers,
        clock: BrokerClock,
        settings: GatewaySettings,
        tidy: Callable[[], Awaitable[None]],
    ) -> None:
        """`tidy` does the rest of the work that one gateway does for all."""
        self._redis = redis
        self._batch_client = batch_client
        self._workers = workers
        self._clock = clock
        self._check_seconds = settings.job_check_seconds
        self._lease_seconds = settings.lease_seconds
        self._horizon_seconds = 2 * max(self._check_seconds, self._lease_seconds) + CLOCK_SLACK_SECONDS
        self._tidy = tidy
        self._token = uuid.uuid4().hex
        self._script = redis.register_script(script("reconcile"))
        self._log_limit = LogLimit(10, 60.0)

    async def step(self, count: Callable[[str], None]) -> None:
        """Reconcile once, then pause: a background loop's step; `count` is called with each action."""
        if await self._holds_lock():
            try:
                for action in (await self.reconcile_due()).elements():
                    count(action)
            finally:
                # Also if the jobs could not be examined, because this makes room in a full Redis.
                await self._tidy()
            await bury_damaged(self._redis, self._clock.now())
        await asyncio.sleep(RECONCILE_SECONDS)

    async def _holds_lock(self) -> bool:
        milliseconds = int(LOCK_SECONDS * 1000)
        # Two gateways that reconcile at the same time do no harm: each transition is atomic.
        try:
            holder: Any = await self._redis.get(keys.RECONCILER_LOCK)
        except ResponseError:
            # Another program has put something in the place of the lock.
            await self._redis.set(keys.RECONCILER_LOCK, self._token, px=milliseconds)
            return True
        if holder is None:
            try:
                return bool(await self._redis.set(keys.RECONCILER_LOCK, self._token, nx=True, px=milliseconds))
            except OutOfMemoryError:
                # Redis is full, and who holds the lock makes room.
                return True
        is_own: bool = holder.decode(errors="replace") == self._token
        # The holder's lock is prolonged. Another's is shortened if it lasts longer than any that a gateway has taken:
        # Redis' clock was set back since.
        await self._redis.pexpire(keys.RECONCILER_LOCK, milliseconds, lt=not is_own)
        return is_own

    async def reconcile_due(self) -> Counter[str]:
        """Reconcile the jobs whose check is due; return the number of jobs per action.

        A check that is later than any can be was noted before Redis' clock was set back, so it is due too.

        A job is published again alone, whatever it was submitted with: a job that kills its process harms no other.
        """
        now = self._clock.now()
        done: Counter[str] = Counter()
        for first, last in (("-inf", now), (now + self._horizon_seconds, "+inf")):
            due: Any = await self._redis.zrangebyscore(keys.JOBS_OPEN, first, last, start=0, num=JOBS_AT_ONCE)
            for member in due:
                done[await self._reconcile(member)] += 1
        actions = {action: count for action, count in done.items() if action != "waiting"}
        if actions:
            logger.warning("overdue jobs: %s", actions)
        return done

    async def _reconcile(self, member: bytes) -> str:
        """Examine one member of JOBS_OPEN and return the action. If Redis refuses that, the job is postponed."""
        try:
            job_id = member.decode("ascii")
            group = await self._group_of(job_id)
            action: Any = await self._script(
                keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, queue_name(Lane.BULK, group), keys.job(job_id)],
                args=[
                    keys.JOBS_ENDED,
                    job_id,
                    self._batch_client.queue_entry(RunJobsMessage(jobs=[job_id]), group),
                    self._check_seconds,
                    GRACE_SECONDS,
                    self._lease_seconds,
                    self._horizon_seconds,
                ],
            )
        except UnicodeDecodeError:
            # No job has such an id.
            await self._redis.zrem(keys.JOBS_OPEN, member)
            logger.error("%r in %s is the id of no job, and was removed", member, keys.JOBS_OPEN)
            return "gone"
        except ResponseError as error:
            end = self._log_limit.admit()
            if end is not None:
                logger.error("job %s can't be examined now: %s%s", job_id, error, end)
            check_at = self._clock.now() + self._check_seconds
            await self._redis.zadd(keys.JOBS_OPEN, {member: check_at}, xx=True)
            return "waiting"
        return str(action.decode())

    async def _group_of(self, job_id: str) -> str:
        """Return the worker group that serves a job's model now, which may be another than at its acceptance."""
        try:
            model: Any = await self._redis.hget(keys.job(job_id), "model")
        except ResponseError:
            # The record is no hash, and the script ends the job.
            return COMMON_GROUP
        return self._workers.group_for(model.decode(errors="replace")) if model else COMMON_GROUP
