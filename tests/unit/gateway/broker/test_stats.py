import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeServer

from gateway.broker.stats import JobsState, QueueMonitor, QueueStats
from gateway.broker.workers import Workers
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.heartbeat import STALLED
from tests.support.coroutines import run
from tests.unit.gateway.fakes import connected


@asynccontextmanager
async def monitored(broker: FakeServer) -> AsyncIterator[tuple[QueueMonitor, Any]]:
    async with connected(broker) as redis:
        clock = BrokerClock()
        yield QueueMonitor(redis, clock, Workers(redis, clock)), redis


def samples(monitor: QueueMonitor) -> dict[str, float]:
    def all_() -> Iterator[tuple[str, float]]:
        for family in monitor.collect():
            for sample in family.samples:
                yield "/".join([sample.name, *sample.labels.values()]), sample.value

    return dict(all_())


def entry(age_seconds: float) -> str:
    return json.dumps({"headers": {"published_at": time.time() - age_seconds}})


def test_an_empty_queue_is_all_zeros(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, _):
            assert await monitor.refresh() == QueueStats(broker_up=True)

    run(scenario())


def test_waiting_entries_and_ended_jobs_are_counted(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            await redis.lpush("interactive", entry(30), entry(10), entry(0))
            await redis.lpush("bulk", entry(60))
            await redis.hset("unacked", mapping={"a": "1", "b": "2"})
            await redis.zadd(keys.JOBS_OPEN, {"j1": 1, "j2": 2, "j3": 3})
            counts = {"accepted": 10, "succeeded": 4, "failed": 2, "cancelled": 1, "row_rejected": 1}
            await redis.hset(keys.JOB_COUNTS, mapping=counts)
            await redis.lpush(keys.DEAD_LETTERS, "x")
            await redis.hset(keys.WORKER_COUNTS, STALLED, 2)
            stats = await monitor.refresh()
            assert stats.depth == {"interactive": 3, "bulk": 1}
            assert stats.oldest_seconds == pytest.approx({"interactive": 30, "bulk": 60}, abs=1)
            assert (stats.unacked, stats.jobs_open, stats.dead_letters) == (2, 3, 1)
            assert (stats.jobs_accepted, stats.workers_stalled) == (10, 2)
            assert stats.jobs_ended == {"succeeded": 4, "failed": 2, "cancelled": 1, "expired": 0}
            exported = samples(monitor)
            assert exported["inference_queue_depth/interactive"] == 3
            assert exported["inference_jobs_ended_total/failed"] == 2
            assert exported["inference_jobs_rejected_total"] == 1
            assert (
                exported["inference_jobs_accepted_total"]
                == sum(value for name, value in exported.items() if name.startswith("inference_jobs_ended_total"))
                + exported["inference_jobs_open"]
            )

    run(scenario())


@pytest.mark.parametrize(
    "oldest",
    [
        "text",
        "null",
        "[]",
        "{}",
        '{"headers":null}',
        '{"headers":{"published_at":"soon"}}',
        '{"headers":{"published_at":9999999999}}',
    ],
)
def test_an_entry_without_its_time_of_publication_has_age_0(broker: FakeServer, oldest: str) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            await redis.lpush("bulk", oldest)
            stats = await monitor.refresh()
            assert (stats.depth["bulk"], stats.oldest_seconds["bulk"]) == (1, 0.0)

    run(scenario())


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_age_of_an_entry_is_that_of_its_header(broker: FakeServer, separators: tuple[str, str]) -> None:
    published_at = time.time() - 60
    body = json.dumps([['{"published_at":1}', '"published_at":1']])
    headers = {"published_at": published_at, "traces": {}}
    oldest = json.dumps({"body": body, "headers": headers, "properties": {"priority": 0}}, separators=separators)

    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            await redis.lpush("bulk", oldest)
            stats = await monitor.refresh()
            assert 59 < stats.oldest_seconds["bulk"] < 600

    run(scenario())


def test_a_broker_that_is_down_gives_zeros_and_no_counters(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            await redis.hset(keys.JOB_COUNTS, mapping={"accepted": 10, "succeeded": 10})
            await redis.lpush("bulk", entry(60))
            await monitor.refresh()
            broker.connected = False
            assert await monitor.refresh() == QueueStats(broker_up=False)
            exported = samples(monitor)
            assert exported["inference_broker_up"] == 0
            assert not [name for name in exported if name.endswith("_total") or "_total/" in name]
            broker.connected = True
            await monitor.refresh()
            assert samples(monitor)["inference_jobs_accepted_total"] == 10

    run(scenario())


def test_the_brokers_memory_is_exported_if_the_broker_allows_info(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            # fakeredis has no INFO, like a broker that does not allow it.
            assert await monitor.refresh() == QueueStats(broker_up=True)
            assert not [name for name in samples(monitor) if "broker_memory" in name]

            async def info(section: str) -> dict[str, int]:
                assert section == "memory"
                return {"used_memory": 1_000_000, "maxmemory": 0}

            monkeypatch.setattr(redis, "info", info)
            await monitor.refresh()
            exported = samples(monitor)
            assert exported["inference_broker_memory_bytes"] == 1_000_000
            assert exported["inference_broker_memory_limit_bytes"] == 0
            assert (await monitor.read_jobs()).memory_share == 0.0, "no limit is never full"

            async def tight(section: str) -> dict[str, int]:
                return {"used_memory": 1_000_000, "maxmemory": 4_000_000}

            monkeypatch.setattr(redis, "info", tight)
            assert await monitor.read_jobs() == JobsState(0, 0, 1_000_000, 4_000_000)
            assert (await monitor.read_jobs()).memory_share == 0.25

    run(scenario())


def test_open_jobs_count_as_waiting_while_the_queue_holds_any(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            await redis.zadd(keys.JOBS_OPEN, {"j1": 1, "j2": 2, "j3": 3})
            await redis.hset(keys.JOB_COUNTS, mapping={"accepted": 10, "succeeded": 4, "failed": 2, "cancelled": 1})
            assert await monitor.read_jobs() == JobsState(0, 7), "all of them run"
            await redis.lpush("bulk", entry(0))
            assert await monitor.read_jobs() == JobsState(3, 7)

    run(scenario())


def test_a_broker_that_has_counted_nothing_yet_has_no_jobs(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, _):
            assert await monitor.read_jobs() == JobsState(0, 0)

    run(scenario())


DAMAGED = ["many", "", "1e400", "9" * 400, b"\xff"]


@pytest.mark.parametrize("value", DAMAGED, ids=str)
@pytest.mark.parametrize(
    ("key", "field"),
    [
        *((keys.JOB_COUNTS, name) for name in ("accepted", "succeeded", "row_rejected")),
        *((keys.JOB_RESULT_COUNTS, name) for name in ("bytes", "bytes_max", "dropped")),
        (keys.WORKER_COUNTS, STALLED),
    ],
)
def test_a_damaged_count_keeps_its_last_value_and_is_named_in_the_log(
    broker: FakeServer, caplog: pytest.LogCaptureFixture, key: str, field: str, value: str | bytes
) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            await redis.hset(key, field, 7)
            await redis.hset(keys.JOB_COUNTS, "failed", 3)
            before, jobs_before = await monitor.refresh(), await monitor.read_jobs()
            await redis.hset(key, field, value)
            damaged = value != ""
            for _ in range(100):
                assert (await monitor.refresh() == before) or not damaged
            assert (await monitor.read_jobs() == jobs_before) or not damaged
            assert samples(monitor)["inference_jobs_ended_total/failed"] == 3
            assert (f"{key} {field} is damaged" in caplog.text) == damaged
            assert len(caplog.records) <= 10

    run(scenario())


@pytest.mark.parametrize(
    "key",
    [
        *("interactive", "bulk", "unacked"),
        *(keys.JOBS_OPEN, keys.JOB_COUNTS, keys.DEAD_LETTERS, keys.WORKER_COUNTS, keys.JOB_RESULT_COUNTS),
    ],
)
def test_a_key_of_another_type_damages_its_own_numbers_only(broker: FakeServer, key: str) -> None:
    async def scenario() -> None:
        async with monitored(broker) as (monitor, redis):
            await redis.set(key, "no such thing")
            for name, member in ((keys.JOB_COUNTS, "failed"), (keys.JOB_RESULT_COUNTS, "bytes")):
                if name != key:
                    await redis.hset(name, member, 5)
            stats = await monitor.refresh()
            assert stats.broker_up
            assert stats.jobs_ended["failed"] == (0 if key == keys.JOB_COUNTS else 5)
            assert (await monitor.read_jobs()).result_bytes == (0 if key == keys.JOB_RESULT_COUNTS else 5)

    run(scenario())
