"""The memory of ended jobs: kept results have a limit, and when the records that fill Redis age out can be foreseen."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from gateway.admission.jobs import BROKER_FULL, NO_LIMIT, ROOM_SECONDS_MIN, JobLimits
from gateway.broker.redis_client import bounded
from gateway.broker.stats import JobsState
from gateway.settings import GatewaySettings
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.job_scripts import script

RESULTS_SHARE = 0.5
"""Share of Redis' memory for kept results, unless a setting says how much."""

RESULTS_YIELD = 0.95
"""Share of Redis' memory beyond which results go in any case: the outcomes of accepted jobs need the rest."""

RESULTS_BYTES_UNLIMITED = 1_000_000_000
"""Limit of kept results in a Redis that has no limit of its own."""

OWNER_SHARE = 0.5
"""Share of one owner in the memory that jobs may take, unless a setting says how much."""

TIDIED_TOGETHER = 500
CALLS_MAX = 20
"""Calls of the script in a row at most, so that a step stays short."""

RECORD_BYTES = 1000
"""Memory of an ended job without its kept result, about: see docs/guarantees.md."""

KEPT_SECONDS = 600
"""Length of the parts of time in `keys.JOBS_KEPT`."""


class JobRetention:
    """The limit of kept results, and the time at which the memory of ended jobs is free again."""

    def __init__(self, redis: Redis, clock: BrokerClock, settings: GatewaySettings) -> None:
        self._redis = redis
        self._clock = clock
        self._settings = settings
        self._tidy = redis.register_script(script("tidy"))

    def results_max_bytes(self, state: JobsState) -> int:
        """Return the most bytes of results that may be kept in the present state of Redis."""
        limit_bytes = state.memory_limit_bytes
        usual = int(RESULTS_SHARE * limit_bytes) if limit_bytes else RESULTS_BYTES_UNLIMITED
        most = self._settings.job_results_max_bytes or usual
        if limit_bytes:
            most = min(most, state.result_bytes + int(RESULTS_YIELD * limit_bytes) - state.memory_bytes)
        return max(0, most)

    def limits(self, state: JobsState) -> JobLimits:
        """Return the limits of memory in the present state of Redis.

        Outcomes to come may take what is left for jobs when all kept results have made room.
        """
        if not state.memory_limit_bytes:
            return JobLimits(owner_bytes=self._settings.owner_job_bytes_max or NO_LIMIT)
        for_jobs = int(BROKER_FULL * state.memory_limit_bytes)
        lasting_bytes = state.memory_bytes - state.result_bytes
        owner_bytes = self._settings.owner_job_bytes_max or int(OWNER_SHARE * for_jobs)
        return JobLimits(max(0, for_jobs - lasting_bytes), owner_bytes)

    async def tidy(self, state: JobsState, queues: Sequence[str] = ()) -> None:
        """Drop the results that are too many, tell the workers the limit, and mend damaged counts and keys.

        Args:
            state: The present state of Redis.
            queues: The names of all queues.

        Raises:
            RedisError: if Redis does not answer.
        """
        memory_bytes = state.memory_limit_bytes or NO_LIMIT
        args = [self.results_max_bytes(state), self._settings.job_retention_seconds, TIDIED_TOGETHER, memory_bytes]
        for _ in range(CALLS_MAX):
            more: Any = await bounded(self._tidy(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *queues], args=args))
            if not more:
                return

    async def memory_seconds(self, state: JobsState) -> float | None:
        """Return the time until records that age out make room for jobs; None if ended jobs take less than open ones.

        Every ended job counts with the same memory, and its results are not dropped before.

        Raises:
            RedisError: if Redis does not answer.
        """
        excess_bytes = state.memory_bytes - BROKER_FULL * state.memory_limit_bytes
        if not state.memory_limit_bytes or excess_bytes <= 0:
            return None
        found: Any = await bounded(self._redis.hgetall(keys.JOBS_KEPT))
        now = self._clock.now()
        # A field that is no number is damaged, and `tidy` deletes it.
        parts = {int(part): int(jobs) for part, jobs in found.items() if part.isdigit() and jobs.isdigit()}
        ends = {(part + 1) * KEPT_SECONDS: jobs for part, jobs in parts.items()}
        kept = sorted((end, jobs) for end, jobs in ends.items() if end > now)
        n_kept = sum(jobs for _, jobs in kept)
        kept_bytes = state.result_bytes + RECORD_BYTES * n_kept
        if 2 * kept_bytes < state.memory_bytes:
            return None
        freed_bytes = 0.0
        for end, jobs in kept:
            freed_bytes += kept_bytes * jobs / n_kept
            if freed_bytes >= excess_bytes:
                return max(ROOM_SECONDS_MIN, end - now)
        return None
