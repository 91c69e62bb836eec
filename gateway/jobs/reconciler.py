"""The reconciler of overdue jobs: every accepted job reaches an outcome, whatever happened to its queue entry."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from gateway.broker.batch_client import BatchClient
from gateway.broker.workers import Workers
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


class Reconciler:
    """The loop that looks after overdue jobs, in the one gateway process that holds the lock."""

    def __init__(
        self,
        redis: Redis,
        batch_client: BatchClient,
        workers: Workers,
        clock: BrokerClock,
        check_seconds: float,
        tidy: Callable[[], Awaitable[None]],
    ) -> None:
        """`tidy` does the rest of the work that one gateway does for all."""
        self._redis = redis
        self._batch_client = batch_client
        self._workers = workers
        self._clock = clock
        self._check_seconds = check_seconds
        self._tidy = tidy
        self._token = uuid.uuid4().hex
        self._script = redis.register_script(script("reconcile"))

    async def step(self, count: Callable[[str], None]) -> None:
        """Reconcile once, then pause: a background loop's step; `count` is called with each action."""
        if await self._holds_lock():
            for action in (await self.reconcile_due()).elements():
                count(action)
            await self._tidy()
        await asyncio.sleep(RECONCILE_SECONDS)

    async def _holds_lock(self) -> bool:
        if await self._redis.set(keys.RECONCILER_LOCK, self._token, nx=True, px=int(LOCK_SECONDS * 1000)):
            return True
        holder: Any = await self._redis.get(keys.RECONCILER_LOCK)
        if holder is None or holder.decode() != self._token:
            return False
        # Two gateways that reconcile at the same time do no harm: each transition is atomic.
        await self._redis.pexpire(keys.RECONCILER_LOCK, int(LOCK_SECONDS * 1000))
        return True

    async def reconcile_due(self) -> Counter[str]:
        """Reconcile the jobs whose check is due; return the number of jobs per action.

        A job is published again alone, whatever it was submitted with: a job that kills its process harms no other.
        """
        now = self._clock.now()
        due: Any = await self._redis.zrangebyscore(keys.JOBS_OPEN, "-inf", now, start=0, num=JOBS_AT_ONCE)
        done: Counter[str] = Counter()
        for raw in due:
            job_id = raw.decode()
            model: Any = await self._redis.hget(keys.job(job_id), "model")
            # The group that serves the model now, which may be another than when the job was accepted.
            worker_group = self._workers.group_for(model.decode()) if model else COMMON_GROUP
            action: Any = await self._script(
                keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, queue_name(Lane.BULK, worker_group), keys.job(job_id)],
                args=[
                    keys.JOBS_ENDED,
                    job_id,
                    self._batch_client.queue_entry(RunJobsMessage(jobs=[job_id]), worker_group),
                    self._check_seconds,
                    GRACE_SECONDS,
                ],
            )
            done[action.decode()] += 1
        actions = {action: count for action, count in done.items() if action != "waiting"}
        if actions:
            logger.warning("overdue jobs: %s", actions)
        return done
