"""The state of the queue, read from Redis when someone asks, and its metrics.

Every gateway reads the same numbers: over replicas take the maximum, not the sum.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.broker.redis_client import soon
from gateway.broker.workers import Workers
from shared.observability.metric_names import PREFIX
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import OUTCOMES, Lane, queue_name
from shared.queue.heartbeat import STALLED

UNACKED_KEY = "unacked"
"""kombu's hash of the messages that workers hold."""


@dataclass(frozen=True)
class QueueStats:
    """Depths in messages, ages in seconds; zeros while the broker is down."""

    broker_up: bool = False
    depth: dict[str, int] = field(default_factory=lambda: {lane.value: 0 for lane in Lane})
    oldest_seconds: dict[str, float] = field(default_factory=lambda: {lane.value: 0.0 for lane in Lane})
    unacked: int = 0
    jobs_open: int = 0
    jobs_accepted: int = 0
    jobs_ended: dict[str, int] = field(default_factory=lambda: {outcome.value: 0 for outcome in OUTCOMES})
    dead_letters: int = 0
    workers_stalled: int = 0
    memory_bytes: int | None = None
    """What the broker's data take, and at most may take (0: no limit); None if it does not tell."""
    memory_limit_bytes: int | None = None


class QueueMonitor(Collector):
    """Reads the stats; as a collector, exports those that were read last."""

    def __init__(self, redis: Redis, clock: BrokerClock, workers: Workers) -> None:
        self._redis = redis
        self._clock = clock
        self._workers = workers
        self.stats = QueueStats()

    async def refresh(self) -> QueueStats:
        """Read the queue; a broker that does not answer gives stats that say so."""
        try:
            # One transaction: accepted = outcomes + open must hold in what is read together.
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
                *answers, unacked, jobs_open, counts, dead_letters, stalled = await soon(pipe.execute())
            memory = await self._memory()
        except (RedisError, OSError, asyncio.TimeoutError):
            self.stats = QueueStats()
            return self.stats
        depth, oldest_seconds = QueueStats().depth, QueueStats().oldest_seconds
        for (lane, _), length, oldest in zip(queues, answers[::2], answers[1::2], strict=True):
            depth[lane.value] += length
            oldest_seconds[lane.value] = max(oldest_seconds[lane.value], self._age(oldest))
        self.stats = QueueStats(
            broker_up=True,
            depth=depth,
            oldest_seconds=oldest_seconds,
            unacked=unacked,
            jobs_open=jobs_open,
            jobs_accepted=int(counts.get(b"accepted", 0)),
            jobs_ended={outcome.value: int(counts.get(outcome.value.encode(), 0)) for outcome in OUTCOMES},
            dead_letters=dead_letters,
            workers_stalled=int(stalled or 0),
            memory_bytes=memory.get("used_memory"),
            memory_limit_bytes=memory.get("maxmemory"),
        )
        return self.stats

    async def _memory(self) -> dict[str, Any]:
        # Not in the transaction, which would fail as a whole: a broker of others may allow no INFO.
        try:
            memory: dict[str, Any] = await soon(self._redis.info("memory"))
        except ResponseError:
            return {}
        return memory

    async def jobs(self) -> tuple[int, int, float]:
        """How many jobs wait, about, how many have ended since ever, and the share of its memory that Redis has in use.

        As waiting count all that are open while the queue holds any: those that run are few beside them.

        Raises:
            RedisError: if the broker does not answer.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zcard(keys.JOBS_OPEN)
            pipe.hmget(keys.JOB_COUNTS, [outcome.value for outcome in OUTCOMES])
            for group in self._workers.groups:
                pipe.llen(queue_name(Lane.BULK, group))
            n_open, counts, *depths = await pipe.execute()
        memory = await self._memory()
        share = memory["used_memory"] / memory["maxmemory"] if memory.get("maxmemory") else 0.0
        return n_open if any(depths) else 0, sum(int(count or 0) for count in counts), share

    def _age(self, entry: bytes | None) -> float:
        if entry is None:
            return 0.0
        try:
            published_at: Any = orjson.loads(entry)["headers"]["published_at"]
            return max(0.0, self._clock.now() - float(published_at))
        except (ValueError, KeyError, TypeError):
            return 0.0

    def collect(self) -> Iterator[Metric]:
        """The stats as metrics."""
        stats = self.stats
        yield _gauge("broker_up", "Whether Redis answers.", int(stats.broker_up))
        yield _gauge("workers", "Workers that announce themselves.", len(self._workers.heartbeats))
        yield _gauge("worker_slots", "Pool children of those workers.", self._workers.slots)
        yield _gauge("queue_unacked", "Tasks that workers hold.", stats.unacked)
        yield _gauge("jobs_open", "Accepted jobs without an outcome.", stats.jobs_open)
        yield _gauge("dead_letters", "Queue entries that were no tasks.", stats.dead_letters)
        if stats.memory_bytes is not None:
            yield _gauge("broker_memory_bytes", "Memory that Redis' data take.", stats.memory_bytes)
        if stats.memory_limit_bytes is not None:
            yield _gauge("broker_memory_limit_bytes", "Redis' maxmemory; 0: no limit.", stats.memory_limit_bytes)
        yield _by_lane("queue_depth", "Tasks that wait in the queue.", stats.depth)
        yield _by_lane("queue_oldest_job_age_seconds", "Age of the task that has waited longest.", stats.oldest_seconds)
        if not stats.broker_up:
            # Zeros would look like a restart of these counters, and their whole history like a burst afterwards.
            return
        yield CounterMetricFamily(f"{PREFIX}jobs_accepted", "Jobs accepted.", value=stats.jobs_accepted)
        yield CounterMetricFamily(
            f"{PREFIX}workers_stalled", "Workers that had stopped consuming, and ended.", value=stats.workers_stalled
        )
        ended = CounterMetricFamily(f"{PREFIX}jobs_ended", "Jobs that got their outcome.", labels=["outcome"])
        for outcome, count in stats.jobs_ended.items():
            ended.add_metric([outcome], count)
        yield ended


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)


def _by_lane(name: str, text: str, values: dict[str, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=["lane"])
    for lane, value in values.items():
        family.add_metric([lane], value)
    return family
