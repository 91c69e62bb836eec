import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeServer
from redis.exceptions import OutOfMemoryError

from gateway.admission.jobs import JobsAdmission
from gateway.broker.batch_client import BatchClient
from gateway.fairness.answers import PIECE_BYTES
from gateway.jobs import reconciler as module
from gateway.jobs.reader import JobReader
from gateway.jobs.reconciler import Reconciler
from gateway.jobs.service import JobService
from gateway.settings import GatewaySettings
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.celery_app import make_celery
from shared.queue.contract import RunJobsMessage
from shared.queue.dead_letters import DeadLetter
from shared.settings import CommonSettings
from tests.support.coroutines import run
from tests.support.manifests import classifier
from tests.unit.gateway.fakes import FakeWorkers, connected

APP = make_celery(CommonSettings())
LOCKED = keys.RECONCILER_LOCK, b"\xff without an end"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONCILE_SECONDS", 0.0)


class Office:
    """A gateway's reconciler, with a way to submit jobs and to let them be overdue."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        batch_client = BatchClient(redis, redis, redis, APP, BrokerClock())
        self.workers = FakeWorkers()
        settings = GatewaySettings()
        self.jobs = JobService(redis, batch_client, self.workers, JobsAdmission(settings), settings)
        self.reader = JobReader(redis, PIECE_BYTES)
        self.reconciler = Reconciler(redis, batch_client, self.workers, BrokerClock(), settings, self.tidy)
        self.tidied = 0
        self.counted: Counter[str] = Counter()

    async def submit(self, overdue: bool = True) -> str:
        """Submit a job whose queue entry is lost; if `overdue`, long ago."""
        job_id, _ = await self.jobs.submit(classifier(), [[1.0, 2.0]], True, None)
        await self.redis.delete("bulk")
        if overdue:
            await self.redis.zadd(keys.JOBS_OPEN, {job_id: 0})
            await self.redis.hset(keys.job(job_id), "published_at", "1")
        return job_id

    async def tidy(self) -> None:
        self.tidied += 1

    async def step(self) -> None:
        await self.reconciler.step(lambda action: self.counted.update([action]))


@asynccontextmanager
async def offices(broker: FakeServer) -> AsyncIterator[tuple[Office, Office]]:
    async with connected(broker) as redis:
        yield Office(redis), Office(redis)


def jobs_in(entry: bytes) -> list[str]:
    [[payload], _, _] = json.loads(json.loads(entry)["body"])
    return RunJobsMessage.model_validate_json(payload).jobs


def test_of_two_gateways_one_looks(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, other):
            await asyncio.gather(one.step(), other.step())
            for _ in range(3):
                await one.submit()
                await asyncio.gather(one.step(), other.step())
            assert sorted([one.counted.total(), other.counted.total()]) == [0, 3]

    run(scenario())


def test_the_other_takes_over_when_the_first_is_gone(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, other):
            await one.step()
            await one.submit()
            await other.step()
            assert not other.counted
            # Its time is over, as it will be 5 s after the holder's last step.
            assert 4000 < await one.redis.pttl(keys.RECONCILER_LOCK) <= 5000
            await one.redis.delete(keys.RECONCILER_LOCK)
            await other.step()
            assert other.counted == {"republished": 1}

    run(scenario())


def test_the_holder_keeps_the_lock_and_the_other_does_not_prolong_it(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, other):
            await one.step()
            await one.redis.pexpire(keys.RECONCILER_LOCK, 1000)
            await other.step()
            assert await one.redis.pttl(keys.RECONCILER_LOCK) <= 1000
            await one.step()
            assert await one.redis.pttl(keys.RECONCILER_LOCK) > 4000

    run(scenario())


def test_jobs_whose_check_is_not_due_are_left_alone(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            await one.submit(overdue=False)
            await one.step()
            assert not one.counted
            assert await one.redis.llen("bulk") == 0

    run(scenario())


def test_jobs_are_published_again_one_by_one(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            submitted = [await one.submit() for _ in range(3)]
            assert await one.reconciler.reconcile_due() == {"republished": 3}
            entries = await one.redis.lrange("bulk", 0, -1)
            assert sorted(map(jobs_in, entries)) == sorted([job_id] for job_id in submitted)

    run(scenario())


def test_a_job_goes_to_the_workers_that_serve_its_model_now(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            job_id = await one.submit()
            one.workers.pinned = {"sticks": 1}
            assert await one.reconciler.reconcile_due() == {"republished": 1}
            [entry] = await one.redis.lrange("bulk.sticks", 0, -1)
            assert jobs_in(entry) == [job_id]
            assert json.loads(entry)["properties"]["delivery_info"]["routing_key"] == "bulk.sticks"
            assert await one.redis.llen("bulk") == 0

    run(scenario())


def test_each_action_is_counted(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            expired, lost, running = [await one.submit() for _ in range(3)]
            await one.redis.hset(keys.job(expired), "expires_at", "1")
            far = {"status": "running", "lease_until": "9e9"}
            await one.redis.hset(keys.job(running), mapping=far)
            await one.redis.hset(keys.job(lost), mapping={**far, "lease_until": "1", "attempt": "3"})
            await one.redis.zadd(keys.JOBS_OPEN, {"unheard-of": 0})
            await one.step()
            assert one.counted == {"expired": 1, "worker_lost": 1, "waiting": 1, "gone": 1}
            await one.step()
            assert one.counted.total() == 4

    run(scenario())


def test_a_look_is_bounded(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOBS_AT_ONCE", 2)

    async def scenario() -> None:
        async with offices(broker) as (one, _):
            await one.redis.zadd(keys.JOBS_OPEN, {f"leftover{i}": i for i in range(5)})
            assert [(await one.reconciler.reconcile_due()).total() for _ in range(4)] == [2, 2, 1, 0]

    run(scenario())


@pytest.mark.parametrize("damage", ["no hash", "no number", "no text"])
def test_a_damaged_record_stops_no_recovery_and_becomes_a_dead_letter(
    broker: FakeServer, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            bad, good = [await one.submit() for _ in range(2)]
            await one.redis.zadd(keys.JOBS_OPEN, {bad: -1})
            if damage == "no hash":
                await one.redis.set(keys.job(bad), "x")
            elif damage == "no number":
                await one.redis.hset(keys.job(bad), "expires_at", "soon")
            else:
                await one.redis.hset(keys.job(bad), "model", b"\xff")
            await one.step()
            assert one.counted == {"damaged": 1, "republished": 1}
            job = await one.reader.get(bad)
            assert job is not None and job.outcome is not None
            assert (job.status.value, job.outcome["error"]["code"]) == ("failed", "job_damaged")
            [letter] = await one.redis.lrange(keys.DEAD_LETTERS, 0, -1)
            buried = DeadLetter.model_validate_json(letter)
            assert (buried.queue, buried.reason.partition(": ")[0]) == ("", keys.job(bad))
            assert await one.redis.llen(keys.JOBS_DAMAGED) == 0
            assert f"dead letter {buried.id}: damaged data: {keys.job(bad)}" in caplog.text
            assert (await one.reader.get(good)) is not None

    run(scenario())


def test_ids_that_no_job_can_have_are_removed(broker: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            await one.redis.zadd(keys.JOBS_OPEN, {b"\xff\n": -1, "line\nbreak": -1, "": -1})
            good = await one.submit()
            await one.step()
            assert one.counted == {"gone": 3, "republished": 1}
            assert await one.redis.zrange(keys.JOBS_OPEN, 0, -1) == [good.encode()]

    run(scenario())


def test_a_job_that_redis_refuses_to_examine_is_postponed(broker: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            one.workers.pinned = {"sticks": 1}
            stuck = await one.submit()
            await one.redis.set("bulk.sticks", "no queue")
            one.workers.pinned = {}
            good = await one.submit()
            one.workers.pinned = {"sticks": 1}
            await one.redis.hset(keys.job(good), "model", "stones")
            assert await one.reconciler.reconcile_due() == {"waiting": 1, "republished": 1}
            assert await one.redis.zscore(keys.JOBS_OPEN, stuck) > time.time() + 5
            assert stuck in caplog.text

    run(scenario())


def test_checks_and_leases_from_before_the_clock_was_set_back_are_due(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            queued, running, soon = [await one.submit() for _ in range(3)]
            hour = time.time() + 3600
            await one.redis.zadd(keys.JOBS_OPEN, {queued: hour, running: hour, soon: time.time() + 30})
            await one.redis.hset(keys.job(queued), "published_at", hour)
            await one.redis.hset(keys.job(running), mapping={"status": "running", "lease_until": hour})
            assert await one.reconciler.reconcile_due() == {"republished": 1, "waiting": 1}
            assert await one.redis.zscore(keys.JOBS_OPEN, running) < time.time() + 60
            assert await one.reconciler.reconcile_due() == {}

    run(scenario())


def test_a_lock_from_before_the_clock_was_set_back_ends_like_one_that_was_taken_now(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, other):
            await other.step()
            await one.redis.pexpire(keys.RECONCILER_LOCK, 3_600_000)
            await one.step()
            assert await one.redis.pttl(keys.RECONCILER_LOCK) <= 5000

    run(scenario())


@pytest.mark.parametrize("spoil", ["hset", "set"])
def test_a_damaged_lock_is_replaced(broker: FakeServer, spoil: str) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            await (one.redis.hset(keys.RECONCILER_LOCK, "x", "y") if spoil == "hset" else one.redis.set(*LOCKED))
            await one.step()
            assert 0 < await one.redis.pttl(keys.RECONCILER_LOCK) <= 5000
            assert one.tidied == (spoil == "hset")

    run(scenario())


def test_a_full_redis_keeps_no_gateway_from_making_room(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):

            async def refuse(*_: Any, **__: Any) -> None:
                raise OutOfMemoryError("OOM")

            monkeypatch.setattr(one.redis, "set", refuse)
            await one.step()
            assert one.tidied == 1

    run(scenario())


def test_room_is_made_also_if_no_job_can_be_examined(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with offices(broker) as (one, _):
            monkeypatch.setattr(one.redis, "zrangebyscore", lambda *_, **__: asyncio.sleep(0, result=[1]))
            with pytest.raises(AttributeError):
                await one.step()
            assert one.tidied == 1

    run(scenario())
