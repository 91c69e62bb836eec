import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from fakeredis import FakeServer

from gateway.admission.jobs import JobLimits, JobsAdmission
from gateway.broker.stats import JobsState
from gateway.errors import QueueFull
from gateway.jobs.outcome_size import outcome_bytes
from gateway.jobs.retention import RESULTS_BYTES_UNLIMITED, JobRetention
from gateway.settings import GatewaySettings
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from tests.support.coroutines import run
from tests.support.manifests import classifier, regressor
from tests.unit.gateway.fakes import connected

DAY = 86_400
LIMIT = 100_000_000


@asynccontextmanager
async def retention(broker: FakeServer, **settings: Any) -> AsyncIterator[tuple[JobRetention, Any]]:
    async with connected(broker) as redis:
        yield JobRetention(redis, BrokerClock(), GatewaySettings(**settings)), redis


def state(memory: int = 0, limit: int = LIMIT, results: int = 0, waiting: int = 0) -> JobsState:
    return JobsState(waiting, 0, memory, limit, results)


@pytest.mark.parametrize(
    ("now", "setting", "limit"),
    [
        (state(), None, LIMIT // 2),
        (state(), 7, 7),
        (state(limit=0, memory=10), None, RESULTS_BYTES_UNLIMITED),
        (state(limit=0, memory=10), 7, 7),
        (state(memory=90_000_000, results=40_000_000), None, 45_000_000),
        # Above 95 % results make room for outcomes.
        (state(memory=97_000_000, results=40_000_000), None, 38_000_000),
        (state(memory=99_000_000, results=1_000), None, 0),
    ],
)
def test_results_may_take_their_share_and_yield_when_redis_is_nearly_full(
    broker: FakeServer, now: JobsState, setting: int | None, limit: int
) -> None:
    async def scenario() -> None:
        async with retention(broker, job_results_max_bytes=setting) as (ended, redis):
            assert ended.results_max_bytes(now) == limit
            await ended.tidy(now)
            assert int(await redis.hget(keys.JOB_RESULT_COUNTS, "bytes_max")) == limit

    run(scenario())


def test_more_results_than_one_call_drops_are_dropped_in_a_step(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with retention(broker, job_results_max_bytes=5_000) as (ended, redis):
            for number in range(250):
                await redis.zadd(keys.JOB_RESULTS, {f"job{number} 2000": time.time() + number + 10})
            await redis.hset(keys.JOB_RESULT_COUNTS, "bytes", 500_000)
            await ended.tidy(state())
            assert await redis.zrange(keys.JOB_RESULTS, 0, -1) == [b"job248 2000", b"job249 2000"]

    run(scenario())


def part(seconds: float) -> int:
    """Return the field of the records that go in so many seconds."""
    return int((time.time() + seconds) // 600)


@pytest.mark.parametrize(
    ("now", "kept", "seconds"),
    [
        # Half of the memory is enough, or the first or the second part of the records must go.
        (state(memory=50_000_000), {3600: 40_000}, None),
        (state(memory=95_000_000), {3600: 40_000, DAY: 40_000}, 3600),
        (state(memory=99_000_000), {3600: 1_000, DAY: 90_000}, DAY),
        (state(memory=95_000_000, results=60_000_000), {7200: 10_000}, 7200),
        # Records that have aged out already free nothing more.
        (state(memory=95_000_000), {-3600: 40_000, 7200: 60_000}, 7200),
        # Open jobs fill the memory, or nothing is known of the rest, or there is no limit.
        (state(memory=95_000_000), {3600: 10_000}, None),
        (state(memory=95_000_000), {}, None),
        (state(memory=95_000_000, limit=0), {3600: 90_000}, None),
    ],
)
def test_it_is_foreseen_when_there_is_memory_again(
    broker: FakeServer, now: JobsState, kept: dict[float, int], seconds: float | None
) -> None:
    async def scenario() -> None:
        async with retention(broker) as (ended, redis):
            for after, jobs in kept.items():
                await redis.hset(keys.JOBS_KEPT, str(part(after)), jobs)
            await redis.hset(keys.JOBS_KEPT, "counted", 10**9)
            found = await ended.memory_seconds(now)
            if seconds is None:
                assert found is None
            else:
                assert found is not None
                assert seconds <= found + 1 <= seconds + 602, "a part of ten minutes has ended then"

    run(scenario())


def test_whoever_is_refused_for_lack_of_memory_is_told_when_there_is_some() -> None:
    admission = JobsAdmission(GatewaySettings())
    for memory_seconds, expected in ((7200.0, 7200.0), (None, admission.room_seconds)):
        admission.observe(0, 0, 0.91, memory_seconds)
        with pytest.raises(QueueFull) as refused:
            admission.check()
        assert refused.value.retry_after_seconds == expected
    admission.observe(0, 0, 0.89, None)
    admission.check()


@pytest.mark.parametrize(
    ("now", "setting", "expected"),
    [
        (state(memory=30_000_000), None, JobLimits(60_000_000, 45_000_000)),
        # Kept results make room for outcomes to come.
        (state(memory=60_000_000, results=40_000_000), None, JobLimits(70_000_000, 45_000_000)),
        (state(memory=95_000_000), 5, JobLimits(0, 5)),
        (state(memory=30_000_000, limit=0), None, JobLimits()),
        (state(memory=30_000_000, limit=0), 5, JobLimits(owner_bytes=5)),
    ],
)
def test_outcomes_to_come_and_the_jobs_of_an_owner_have_limits(
    broker: FakeServer, now: JobsState, setting: int | None, expected: JobLimits
) -> None:
    async def scenario() -> None:
        async with retention(broker, owner_job_bytes_max=setting) as (ended, _):
            assert ended.limits(now) == expected

    run(scenario())


def test_damaged_parts_of_the_time_foresee_nothing(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with retention(broker) as (ended, redis):
            await redis.hset(keys.JOBS_KEPT, mapping={"x": 5, str(part(3600)): 40_000, str(part(7200)): "many"})
            assert await ended.memory_seconds(state(memory=95_000_000, results=60_000_000)) is not None

    run(scenario())


@pytest.mark.parametrize(("n_rows", "classes"), [(1, 3), (500, 3), (500, 200), (500, 0)])
def test_an_outcome_is_hardly_larger_than_expected(n_rows: int, classes: int) -> None:
    names = [f"class-{number}" for number in range(classes)]
    manifest = classifier(classes=names) if classes else regressor()
    shares = [1 / (3 + number) for number in range(classes)]
    outcome = {
        "predictions": [names[0] if names else 1 / 3] * n_rows,
        "probabilities": [shares] * n_rows if classes else None,
        "outputs": [("prediction", names)],
    }
    size = len(orjson.dumps(outcome))
    expected = outcome_bytes(manifest, n_rows)

    assert size <= expected + 100 if size > 1100 else expected == 0
    assert expected <= 2.5 * size
