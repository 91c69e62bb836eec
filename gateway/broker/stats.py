"""State of the queue, read from Redis on request, and its metrics.

All gateways read the same numbers: over replicas take the maximum, not the sum.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.broker.counts import Counts
from gateway.broker.redis_client import bounded
from gateway.broker.workers import Workers
from shared.observability.metric_names import PREFIX
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import OUTCOMES, ErrorCode, Lane, queue_name
from shared.queue.heartbeat import STALLED

_PUBLISHED_AT = re.compile(rb'"published_at":\s*([^\s,}]+)')

UNACKED_KEY = "unacked"
"""kombu's hash of the entries that workers hold."""


@dataclass(frozen=True)
class QueueStats:
    """Numbers of the queue: depths in entries, ages in seconds; all zero while the broker is down."""

    broker_up: bool = False
    depth: dict[str, int] = field(default_factory=lambda: {lane.value: 0 for lane in Lane})
    oldest_seconds: dict[str, float] = field(default_factory=lambda: {lane.value: 0.0 for lane in Lane})
    oldest_seconds_of: dict[str, float] = field(default_factory=dict)
    """Age of the oldest entry of each queue that is not empty."""
    unacked: int = 0
    jobs_open: int = 0
    jobs_accepted: int = 0
    jobs_ended: dict[str, int] = field(default_factory=lambda: {outcome.value: 0 for outcome in OUTCOMES})
    jobs_rejected: int = 0
    """Failed jobs of which the model refused a row."""
    dead_letters: int = 0
    workers_stalled: int = 0
    memory_bytes: int | None = None
    """Memory of the broker's data; None if the broker does not allow INFO."""
    memory_limit_bytes: int | None = None
    """Most memory that the broker's data may take, 0 for no limit; None as above."""
    result_bytes: int = 0
    result_bytes_limit: int = 0
    """Most bytes of kept results; 0 until a gateway has set it."""
    results_dropped: int = 0


class JobsState(NamedTuple):
    """Numbers from which the admission of jobs estimates their wait."""

    waiting: int
    """Open jobs, or 0 while the bulk lane is empty: the few that run are not counted apart."""
    ended: int
    """Jobs that have ended since the counters began."""
    memory_bytes: int = 0
    """Memory of the broker's data, 0 if it is not known."""
    memory_limit_bytes: int = 0
    """Redis' memory limit, 0 without one."""
    result_bytes: int = 0
    """Bytes of kept results."""

    @property
    def memory_share(self) -> float:
        """Used share of the memory limit, 0 without a limit."""
        return self.memory_bytes / self.memory_limit_bytes if self.memory_limit_bytes else 0.0


class QueueMonitor(Collector):
    """Reader of the queue's state, and collector that exports the state that was read last."""

    def __init__(self, redis: Redis, clock: BrokerClock, workers: Workers) -> None:
        self._redis = redis
        self._clock = clock
        self._workers = workers
        self._counts = Counts()
        self.stats = QueueStats()

    async def refresh(self) -> QueueStats:
        """Read and return the stats; `broker_up` is False if the broker does not answer."""
        try:
            # One transaction, so that the sum holds: accepted jobs = ended jobs + open jobs.
            queues = [(lane, queue_name(lane, group)) for lane in Lane for group in self._workers.groups]
            async with self._redis.pipeline(transaction=True) as pipe:
                for _, queue in queues:
                    pipe.llen(queue)
                    pipe.lindex(queue, -1)
                pipe.hlen(UNACKED_KEY)
                pipe.zcard(keys.JOBS_OPEN)
                pipe.hgetall(keys.JOB_COUNTS)
                pipe.llen(keys.DEAD_LETTERS)
                pipe.hget(keys.WORKER_COUNTS, STALLED)
                pipe.hgetall(keys.JOB_RESULT_COUNTS)
                found = await bounded(pipe.execute(raise_on_error=False))
            memory = await self._memory()
        except (RedisError, OSError, asyncio.TimeoutError):
            self.stats = QueueStats()
            return self.stats
        *answers, unacked, jobs_open, counts, dead_letters, stalled, results = found
        count, field_of = self._counts.count, self._counts.field
        depth, oldest_seconds = QueueStats().depth, QueueStats().oldest_seconds
        ages: dict[str, float] = {}
        for (lane, queue), length, oldest in zip(queues, answers[::2], answers[1::2], strict=True):
            depth[lane.value] += count(queue, length)
            if isinstance(oldest, bytes):
                ages[queue] = self._age(oldest)
                oldest_seconds[lane.value] = max(oldest_seconds[lane.value], ages[queue])
        self.stats = QueueStats(
            broker_up=True,
            depth=depth,
            oldest_seconds=oldest_seconds,
            oldest_seconds_of=ages,
            unacked=count(UNACKED_KEY, unacked),
            jobs_open=count(keys.JOBS_OPEN, jobs_open),
            jobs_accepted=field_of(keys.JOB_COUNTS, "accepted", counts),
            jobs_ended={outcome.value: field_of(keys.JOB_COUNTS, outcome.value, counts) for outcome in OUTCOMES},
            jobs_rejected=field_of(keys.JOB_COUNTS, ErrorCode.ROW_REJECTED.value, counts),
            dead_letters=count(keys.DEAD_LETTERS, dead_letters),
            workers_stalled=count(f"{keys.WORKER_COUNTS} {STALLED}", stalled),
            memory_bytes=memory.get("used_memory"),
            memory_limit_bytes=memory.get("maxmemory"),
            result_bytes=field_of(keys.JOB_RESULT_COUNTS, "bytes", results),
            result_bytes_limit=field_of(keys.JOB_RESULT_COUNTS, "bytes_max", results),
            results_dropped=field_of(keys.JOB_RESULT_COUNTS, "dropped", results),
        )
        return self.stats

    async def _memory(self) -> dict[str, Any]:
        # Not in the transaction, which would fail as a whole on a hosted broker that does not allow INFO.
        try:
            memory: dict[str, Any] = await bounded(self._redis.info("memory"))
        except ResponseError:
            return {}
        return memory

    async def read_jobs(self) -> JobsState:
        """Read the numbers for the admission of jobs.

        Raises:
            RedisError: if the broker does not answer.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zcard(keys.JOBS_OPEN)
            pipe.hgetall(keys.JOB_COUNTS)
            pipe.hget(keys.JOB_RESULT_COUNTS, "bytes")
            queues = [queue_name(Lane.BULK, group) for group in self._workers.groups]
            for queue in queues:
                pipe.llen(queue)
            n_open, counts, result_bytes, *depths = await pipe.execute(raise_on_error=False)
        memory = await self._memory()
        count, field_of = self._counts.count, self._counts.field
        waits = any([count(queue, depth) for queue, depth in zip(queues, depths, strict=True)])
        return JobsState(
            count(keys.JOBS_OPEN, n_open) if waits else 0,
            sum(field_of(keys.JOB_COUNTS, outcome.value, counts) for outcome in OUTCOMES),
            memory.get("used_memory", 0),
            memory.get("maxmemory", 0),
            count(f"{keys.JOB_RESULT_COUNTS} bytes", result_bytes),
        )

    def _age(self, entry: bytes) -> float:
        # An entry may have many megabytes, so it is not parsed. The body, whose quotation marks have backslashes before
        # them, can't hold the name.
        found = _PUBLISHED_AT.match(entry, max(0, entry.rfind(b'"published_at"')))
        try:
            return max(0.0, self._clock.now() - float(found[1])) if found else 0.0
        except ValueError:
            return 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the stats that were read last."""
        stats = self.stats
        yield _gauge("broker_up", "1 while Redis answers.", int(stats.broker_up))
        yield _gauge("workers", "Workers with a fresh heartbeat.", len(self._workers.heartbeats))
        yield _gauge("worker_slots", "Pool children of those workers.", self._workers.slots)
        yield _gauge("queue_unacked", "Queue entries that workers hold.", stats.unacked)
        yield _gauge("jobs_open", "Accepted jobs without an outcome.", stats.jobs_open)
        yield _gauge(
            "dead_letters", "Queue entries that workers could not understand, and damaged data.", stats.dead_letters
        )
        if stats.memory_bytes is not None:
            yield _gauge("broker_memory_bytes", "Memory of Redis' data.", stats.memory_bytes)
        if stats.memory_limit_bytes is not None:
            yield _gauge("broker_memory_limit_bytes", "Redis' maxmemory; 0: no limit.", stats.memory_limit_bytes)
        yield _by_lane("queue_depth", "Queue entries that wait.", stats.depth)
        yield _by_lane("queue_oldest_job_age_seconds", "Age of the oldest queue entry.", stats.oldest_seconds)
        if not stats.broker_up:
            # A zero would look like a reset of the counter, and the next true value like a burst.
            return
        yield _gauge("result_bytes", "Bytes of the results that Redis keeps.", stats.result_bytes)
        yield _gauge("result_bytes_limit", "Bytes beyond which the oldest results go.", stats.result_bytes_limit)
        yield CounterMetricFamily(
            f"{PREFIX}results_dropped", "Results that made room for newer ones.", value=stats.results_dropped
        )
        yield CounterMetricFamily(f"{PREFIX}jobs_accepted", "Jobs accepted.", value=stats.jobs_accepted)
        yield CounterMetricFamily(
            f"{PREFIX}workers_stalled",
            "Workers that had stopped consuming and were ended.",
            value=stats.workers_stalled,
        )
        ended = CounterMetricFamily(f"{PREFIX}jobs_ended", "Jobs that reached an outcome.", labels=["outcome"])
        for outcome, count in stats.jobs_ended.items():
            ended.add_metric([outcome], count)
        yield ended
        yield CounterMetricFamily(
            f"{PREFIX}jobs_rejected",
            "Failed jobs of which the model refused a row.",
            value=stats.jobs_rejected,
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)


def _by_lane(name: str, text: str, values: dict[str, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=["lane"])
    for lane, value in values.items():
        family.add_metric([lane], value)
    return family
