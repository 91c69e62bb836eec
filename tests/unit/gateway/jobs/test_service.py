import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from fakeredis import FakeServer

from gateway.admission.jobs import JobLimits, JobsAdmission
from gateway.broker import redis_client as connection
from gateway.broker.batch_client import BatchClient
from gateway.broker.confirmed_script import Answer
from gateway.errors import (
    BrokerUnavailable,
    IdempotencyKeyReused,
    Overloaded,
    QueueFull,
    QuotaExceeded,
    RecordDamaged,
)
from gateway.fairness.answers import PIECE_BYTES
from gateway.jobs import service, waiters
from gateway.jobs.outcome_size import outcome_bytes
from gateway.jobs.reader import JobReader
from gateway.jobs.record import Record
from gateway.jobs.service import DELETED_TOGETHER, LINES_PER_SECOND, Deletion, JobService
from gateway.settings import GatewaySettings
from headrace.models.manifest import Manifest
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.celery_app import make_celery
from shared.queue.contract import JobStatus
from shared.queue.job_scripts import script
from shared.settings import CommonSettings
from tests.support.coroutines import run, turns, until
from tests.support.manifests import classifier, regressor
from tests.unit.gateway.fakes import FakeWorkers, connected, error_of

MANIFEST = classifier()
ROWS = [[1.5, 2.0]]
APP = make_celery(CommonSettings())


class Desk:
    """Jobs, and the Redis behind them."""

    def __init__(self, redis: Any, **settings: Any) -> None:
        self.redis = redis
        self.workers = FakeWorkers()
        chosen = GatewaySettings(**settings)
        self.admission = JobsAdmission(chosen)
        batch_client = BatchClient(redis, redis, redis, APP, BrokerClock())
        self.jobs = JobService(redis, batch_client, self.workers, self.admission, chosen)
        self.reader = JobReader(redis, PIECE_BYTES)

    async def submit(
        self,
        rows: Any = ROWS,
        key: str | None = None,
        single: bool = False,
        manifest: Manifest = MANIFEST,
        owner: str = "",
        reference: str | None = None,
    ) -> tuple[str, bool]:
        return await self.jobs.submit(manifest, rows, single, key, owner, reference=reference)

    async def finish(self, job_id: str, status: str = "succeeded", outcome: str = '{"predictions":["short"]}') -> None:
        """Write an outcome as a worker does."""
        finish = self.redis.register_script(script("finish"))
        names = [keys.JOBS_OPEN, keys.JOB_COUNTS, keys.job(job_id)]
        _, *written = await finish(keys=names, args=[keys.JOBS_ENDED, job_id, status, outcome, 0.5, 0])
        assert written == [1]


@asynccontextmanager
async def desk(broker: FakeServer, **settings: Any) -> AsyncIterator[Desk]:
    async with connected(broker) as redis:
        yield Desk(redis, **settings)


def test_an_accepted_job_is_in_redis_and_so_is_its_message(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker, job_retention_seconds=77, job_max_attempts=2) as at:
            before = time.time()
            job_id, replay = await at.submit(single=True)
            assert not replay
            record = await at.redis.hgetall(keys.job(job_id))
            assert json.loads(record[b"rows"]) == ROWS
            assert (record[b"max_attempts"], record[b"retention_seconds"]) == (b"2", b"77")
            assert await at.redis.llen("bulk") == 1
            job = await at.reader.get(job_id)
            assert job is not None
            assert (job.id, job.status, job.model, job.version) == (job_id, JobStatus.QUEUED, "sticks", "v1")
            assert (job.single, job.attempt, job.ended) == (True, 0, False)
            assert before - 1 < job.accepted_at < time.time() + 1
            assert (job.started_at, job.ended_at, job.compute_seconds, job.outcome) == (None,) * 4

    run(scenario())


def test_rows_of_many_values_are_written_in_blocks_and_as_if_at_once(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [[at, "text"] for at in range(service.BLOCK_VALUES)]
    expected, dumps, blocks = orjson.dumps(many), orjson.dumps, []

    def noted(content: Any, **options: Any) -> bytes:
        if isinstance(content, list):
            blocks.append(len(content))
        return dumps(content, **options)

    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit(many, key="k")
            assert await at.redis.hget(keys.job(job_id), "rows") == expected
            assert await at.submit(many, key="k") == (job_id, True)

    monkeypatch.setattr(orjson, "dumps", noted)
    run(scenario(), 60)
    assert max(blocks) <= service.BLOCK_VALUES / 2


def test_an_ended_job_is_read_with_all_that_happened(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            await at.finish(job_id)
            job = await at.reader.get(job_id)
            assert job is not None
            assert (job.status, job.ended, job.single) == (JobStatus.SUCCEEDED, True, False)
            assert job.outcome == {"predictions": ["short"]}
            assert job.compute_seconds == 0.5
            assert job.ended_at is not None
            assert job.ended_at >= job.accepted_at

    run(scenario())


def test_on_a_broker_that_hangs_nobody_waits_for_those_before(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "COMMAND_SECONDS", 0.5)
    asked = 0

    async def hang(*_: Any) -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with desk(broker) as at:
            monkeypatch.setattr(at.jobs, "_submit_script", hang)
            first = asyncio.ensure_future(error_of(at.submit(), BrokerUnavailable))
            await until("the first is with Redis", lambda: asked)
            # More than one call takes: they would come one after another.
            others = [error_of(at.submit(), BrokerUnavailable) for _ in range(600)]
            await asyncio.wait_for(asyncio.gather(first, *others), 30)
            assert asked == 1

    run(scenario())


def test_submissions_that_arrive_together_go_to_redis_together(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            answers = await asyncio.gather(*(at.submit() for _ in range(257)))
            assert len({job_id for job_id, _ in answers}) == 257
            # What was there in one turn, in two calls: 256 rows are enough for one task.
            assert await at.redis.llen("bulk") == 2
            assert await at.redis.zcard(keys.JOBS_OPEN) == 257

    run(scenario())


def test_submissions_that_arrive_while_redis_works_wait_for_each_other(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            submit, go_on = at.jobs._submit_script, asyncio.Event()
            jobs_per_call: list[int] = []

            async def slowly(keys: list[str], args: list[Any]) -> Any:
                jobs_per_call.append((len(keys) - 3) // 2)
                await go_on.wait()
                return await submit(keys, args)

            monkeypatch.setattr(at.jobs, "_submit_script", slowly)
            callers = [asyncio.create_task(at.submit())]
            for _ in range(20):
                await turns()
                callers.append(asyncio.create_task(at.submit()))
            assert jobs_per_call == [1]
            go_on.set()
            assert len(set(await asyncio.gather(*callers))) == 21
            assert jobs_per_call == [1, 20]

    run(scenario())


@pytest.mark.parametrize(("sizes", "messages"), [([256, 1], 2), ([100, 100, 56, 1], 2), ([300, 300], 2), ([1, 255], 1)])
def test_one_task_carries_so_many_rows(broker: FakeServer, sizes: list[int], messages: int) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            await asyncio.gather(*(at.submit(ROWS * size) for size in sizes))
            assert await at.redis.llen("bulk") == messages

    run(scenario())


def test_jobs_for_other_workers_are_other_tasks(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            at.workers.pinned = {"weights": 1}
            models = [MANIFEST, regressor(), classifier(name="stones"), regressor(), MANIFEST]
            answers = await asyncio.gather(*(at.submit(manifest=manifest) for manifest in models))
            assert len({job_id for job_id, _ in answers}) == 5
            # Two models share the common workers, and their task.
            assert (await at.redis.llen("bulk"), await at.redis.llen("bulk.weights")) == (1, 1)
            for manifest, (job_id, _) in zip(models, answers, strict=True):
                job = await at.reader.get(job_id)
                assert job is not None
                assert job.model == manifest.name

    run(scenario())


def test_the_same_key_for_another_model_is_refused(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            await at.submit(key="k")
            await error_of(at.submit(key="k", manifest=classifier(name="stones")), IdempotencyKeyReused)
            # Another version of it is no other request: an alias may have moved between two tries.
            _, replay = await at.submit(key="k", manifest=classifier(version="v2"))
            assert replay

    run(scenario())


@pytest.mark.parametrize(
    "other", [{"reference": "v2"}, {"reference": None}, {"reference": "latest"}, {"reference": "v1", "single": True}]
)
def test_the_same_key_for_another_version_or_form_of_answer_is_refused(broker: FakeServer, other: Any) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            first = await at.submit(key="k", reference="v1")
            await error_of(at.submit(key="k", **other), IdempotencyKeyReused)
            assert await at.submit(key="k", reference="v1") == (first[0], True)

    run(scenario())


def test_a_flood_of_refused_submissions_does_not_flood_the_log(
    broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            broker.connected = False
            for _ in range(5 * LINES_PER_SECOND):
                await error_of(at.submit(), BrokerUnavailable)

    run(scenario())
    # The second may end in between.
    assert 0 < caplog.text.count("not accepted") < 3 * LINES_PER_SECOND


def test_each_caller_gets_the_own_job(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            answers = await asyncio.gather(*(at.submit([[float(i), 0.0]]) for i in range(30)))
            for i, (job_id, _) in enumerate(answers):
                assert json.loads(await at.redis.hget(keys.job(job_id), "rows")) == [[float(i), 0.0]]

    run(scenario())


def test_the_same_key_gives_the_same_job_however_it_is_sent(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            at_once = await asyncio.gather(*(at.submit(key="k") for _ in range(5)))
            later = await at.submit(key="k")
            assert len({job_id for job_id, _ in [*at_once, later]}) == 1
            assert [replay for _, replay in [*at_once, later]] == [False] + [True] * 5
            assert await at.redis.zcard(keys.JOBS_OPEN) == 1

    run(scenario())


def test_the_same_key_for_other_rows_is_refused_and_hurts_nobody_else(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            await at.submit(key="k")
            _, (_, replay) = await asyncio.gather(
                error_of(at.submit([[9.0, 9.0]], key="k"), IdempotencyKeyReused),
                at.submit([[9.0, 9.0]], key="other"),
            )
            assert not replay

    run(scenario())


def test_too_many_open_jobs_are_refused_with_a_time_to_come_back(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker, jobs_open_max=1) as at:
            await at.submit()
            refused = await error_of(at.submit(), QueueFull)
            assert refused.retry_after_seconds >= 5

    run(scenario())


def test_a_job_that_would_expire_before_its_turn_is_refused(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker, job_expiry_seconds=1e-9) as at:
            at.admission.observe(1000, 0, 0.0)
            await asyncio.sleep(0)
            at.admission.observe(1000, 1, 0.0)
            at.admission.decide(slots=0)
            await at.submit()
            at.admission.decide(slots=2)
            refused = await error_of(at.submit(), Overloaded)
            assert refused.retry_after_seconds >= 5
            at.admission.observe(0, 1001, 0.0)
            at.admission.decide(slots=2)
            await at.submit()

    run(scenario())


def test_no_jobs_are_taken_in_while_redis_has_hardly_any_memory_left(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            at.admission.observe(0, 0, 0.95)
            refused = await error_of(at.submit(), QueueFull)
            assert refused.retry_after_seconds >= 5
            at.admission.observe(0, 0, 0.5)
            await at.submit()

    run(scenario())


def submitting(at: Desk) -> Awaitable[Any]:
    return at.submit()


def getting(at: Desk) -> Awaitable[Any]:
    return at.reader.get("x")


def waiting(at: Desk) -> Awaitable[Any]:
    return at.reader.waiters.wait("x", 5)


def deleting(at: Desk) -> Awaitable[Any]:
    return at.jobs.delete("x")


@pytest.mark.parametrize("ask", [submitting, getting, waiting, deleting])
def test_without_redis_everything_is_503_and_works_again_afterwards(
    broker: FakeServer, ask: Callable[[Desk], Awaitable[Any]]
) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            broker.connected = False
            await error_of(ask(at), BrokerUnavailable)
            broker.connected = True
            await ask(at)

    run(scenario())


def test_a_failure_that_nobody_foresaw_reaches_the_callers(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            submit = at.jobs._submit_script

            async def fail(*_: Any) -> Any:
                raise ZeroDivisionError("a bug")

            monkeypatch.setattr(at.jobs, "_submit_script", fail)
            answers = await asyncio.gather(at.submit(), at.submit(), return_exceptions=True)
            assert [type(answer) for answer in answers] == [ZeroDivisionError] * 2
            monkeypatch.setattr(at.jobs, "_submit_script", submit)
            await at.submit()

    run(scenario())


def test_a_caller_who_leaves_while_submitting_disturbs_nobody(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            leaves, stays = asyncio.create_task(at.submit()), asyncio.create_task(at.submit())
            await turns(1)
            leaves.cancel()
            job_id, _ = await stays
            assert await at.reader.get(job_id) is not None

    run(scenario())


def test_an_unknown_job_is_none_at_once(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            assert await at.reader.get("x") is None
            assert await at.reader.waiters.wait("x", 1000) is None
            assert await at.jobs.delete("x") is None

    run(scenario())


def test_a_job_that_has_ended_is_not_waited_for(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            await at.finish(job_id)
            job = await at.reader.waiters.wait(job_id, 1000)
            assert job is not None
            assert job.ended

    run(scenario())


def test_at_the_stop_all_who_wait_get_the_present_state(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "POLL_SECONDS", 1000.0)

    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            caller = asyncio.create_task(at.reader.waiters.wait(job_id, 1000))
            await until("it waits", lambda: job_id in at.reader.waiters.waiting)
            await turns(50)
            at.reader.waiters.release()
            for job in (await caller, await at.reader.waiters.wait(job_id, 1000)):
                assert job is not None and job.status is JobStatus.QUEUED

    run(scenario())


def test_a_wake_up_of_megabytes_is_not_read(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "POLL_SECONDS", 1000.0)

    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            caller = asyncio.create_task(at.reader.waiters.wait(job_id, 1000))
            await until("it waits", lambda: len(at.reader.waiters.waiting.get(job_id, ())) == 1)
            await turns(50)
            await at.finish(job_id)
            await at.reader.waiters.wake(job_id.encode() + b" x" * 1_000_000)
            await turns(50)
            assert not caller.done()
            await at.reader.waiters.wake(job_id.encode())
            job = await caller
            assert job is not None
            assert job.status is JobStatus.SUCCEEDED

    run(scenario())


def test_all_who_wait_are_woken_by_the_end(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "POLL_SECONDS", 1000.0)

    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            callers = [asyncio.create_task(at.reader.waiters.wait(job_id, 1000)) for _ in range(3)]
            await until("all wait", lambda: len(at.reader.waiters.waiting.get(job_id, ())) == 3)
            await at.reader.waiters.wake(f"another {job_id}".encode())  # too early: they look, and wait on
            await turns(50)
            await at.finish(job_id)
            assert not any(caller.done() for caller in callers)
            await at.reader.waiters.wake(job_id.encode())
            jobs = await asyncio.gather(*callers)
            assert [job.status for job in jobs if job] == [JobStatus.SUCCEEDED] * 3
            assert at.reader.waiters.waiting == {}

    run(scenario())


def test_a_wake_up_that_came_too_early_costs_one_look(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            read, looks = at.reader._read, []

            async def counted(looked_at: str, owner: str) -> Record | None:
                looks.append(looked_at)
                return await read(looked_at, owner)

            monkeypatch.setattr(at.reader.waiters, "_read", counted)
            caller = asyncio.create_task(at.reader.waiters.wait(job_id, 1000))
            await until("it waits", lambda: len(looks) == 1)
            await at.reader.waiters.wake(job_id.encode())
            await turns(100)
            assert len(looks) == 2
            await at.finish(job_id)
            await at.reader.waiters.wake(job_id.encode())
            await caller

    run(scenario())


def test_a_crowd_that_waits_for_one_job_reads_its_record_once(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            looks = 0
            read = at.reader._read

            async def counted(looked_at: str, owner: str) -> Record | None:
                nonlocal looks
                looks += 1
                return await read(looked_at, owner)

            monkeypatch.setattr(at.reader.waiters, "_read", counted)
            many = 10 * waiters.WOKEN_TOGETHER
            callers = [asyncio.create_task(at.reader.waiters.wait(job_id, 1000)) for _ in range(many)]
            await until("all wait", lambda: len(at.reader.waiters.waiting.get(job_id, ())) == many)
            callers.pop().cancel()
            await turns(50)
            assert looks == 1
            await at.finish(job_id)
            await at.reader.waiters.wake(job_id.encode())
            jobs = await asyncio.gather(*callers)
            assert {job.status for job in jobs if job} == {JobStatus.SUCCEEDED}
            assert looks <= 1 + 10

    run(scenario())


def test_the_more_wait_the_less_often_each_is_looked_up(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(waiters, "POLLS_PER_SECOND_MAX", 0.01)

    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            caller = asyncio.create_task(at.reader.waiters.wait(job_id, 1000))
            await until("it waits", lambda: job_id in at.reader.waiters.waiting)
            await turns(50)
            await at.finish(job_id)
            await asyncio.sleep(0.05)
            assert not caller.done(), "it is looked up after 100 s"
            await at.reader.waiters.wake(job_id.encode())
            await caller

    run(scenario())


def test_a_missed_wake_up_is_made_up_for_by_looking(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "POLL_SECONDS", 0.01)

    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            caller = asyncio.create_task(at.reader.waiters.wait(job_id, 1000))
            await until("it waits", lambda: job_id in at.reader.waiters.waiting)
            await at.finish(job_id)
            job = await caller
            assert job is not None
            assert job.ended

    run(scenario())


def test_when_the_time_is_over_the_job_is_told_as_it_is(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            for seconds in (0.0, 0.02):
                job = await at.reader.waiters.wait(job_id, seconds)
                assert job is not None
                assert job.status is JobStatus.QUEUED
            assert at.reader.waiters.waiting == {}

    run(scenario())


def test_an_open_job_is_cancelled_and_an_ended_one_is_forgotten(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            cancelled, _ = await at.submit()
            ended, _ = await at.submit()
            await at.finish(ended, status="failed")
            assert await at.jobs.delete(cancelled) is Deletion.CANCELLED
            job = await at.reader.get(cancelled)
            assert job is not None and job.status is JobStatus.CANCELLED
            for job_id in (cancelled, ended):
                assert await at.jobs.delete(job_id) is Deletion.FORGOTTEN
                assert await at.reader.get(job_id) is None
                assert await at.jobs.delete(job_id) is None

    run(scenario())


def test_a_few_jobs_are_deleted_at_a_time_those_of_the_owners_in_rotation(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (service, connection):
        monkeypatch.setattr(module, "COMMAND_SECONDS", 60.0)

    async def scenario() -> None:
        async with desk(broker) as at:
            order, may_end = [], asyncio.Event()

            async def slowly(_: list[str], args: list[str]) -> Answer:
                order.append(args[-1])
                await may_end.wait()
                return Answer(None, True)

            monkeypatch.setattr(at.jobs, "_delete_script", slowly)
            owners = ["a"] * 3 * DELETED_TOGETHER + ["b"]
            callers = [asyncio.create_task(at.jobs.delete("x", owner)) for owner in owners]
            await turns()
            assert order == ["a"] * DELETED_TOGETHER
            may_end.set()
            assert set(await asyncio.gather(*callers)) == {None}
            assert order[DELETED_TOGETHER : DELETED_TOGETHER + 2] == ["b", "a"]

    run(scenario())


def test_cancelling_tells_those_who_wait_in_other_gateways(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            async with at.redis.pubsub(ignore_subscribe_messages=True) as listener:
                await listener.subscribe(keys.JOBS_ENDED)
                assert await listener.get_message(timeout=60) is None, "it is subscribed"
                await at.jobs.delete(job_id)
                told = await listener.get_message(timeout=60)
                assert told["data"].decode().split() == [job_id]

    run(scenario())


def test_a_job_is_its_owners_own(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit(owner="alice")
            for other in ("", "bob", "alic"):
                assert await at.reader.get(job_id, other) is None
                assert await at.reader.waiters.wait(job_id, 1000, other) is None, (
                    "and nobody waits for what is not there"
                )
                assert await at.jobs.delete(job_id, other) is None
            job = await at.reader.get(job_id, "alice")
            assert job is not None and job.status is JobStatus.QUEUED
            assert await at.jobs.delete(job_id, "alice") is Deletion.CANCELLED

    run(scenario())


def test_a_job_of_nobody_is_no_owners(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            assert await at.reader.get(job_id, "alice") is None
            assert await at.jobs.delete(job_id, "alice") is None
            assert await at.jobs.delete(job_id) is Deletion.CANCELLED

    run(scenario())


def test_the_same_idempotency_key_of_two_owners_is_two_keys(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            jobs = {owner: await at.submit(key="order-17", owner=owner) for owner in ("", "alice", "bob")}
            assert len({job_id for job_id, _ in jobs.values()}) == 3
            assert not any(replay for _, replay in jobs.values())
            again = await at.submit(key="order-17", owner="bob")
            assert again == (jobs["bob"][0], True)
            # Other rows are told apart from the owner's own only.
            await at.submit(rows=[[9.0, 9.0]], key="order-18", owner="alice")
            assert not (await at.submit(key="order-18", owner="bob"))[1]

    run(scenario())


def test_a_key_is_for_the_rows_whatever_the_order_of_the_features(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            first = await at.submit(rows=[[1.0, 2.0]], key="order-17", manifest=classifier(["b", "a"]))
            moved = classifier(["a", "b"])
            assert await at.submit(rows=[[2.0, 1.0]], key="order-17", manifest=moved) == (first[0], True)
            with pytest.raises(IdempotencyKeyReused):
                await at.submit(rows=[[1.0, 2.0]], key="order-17", manifest=moved)

    run(scenario())


@pytest.mark.parametrize("value", ["no job", "x", "\xff \xff"])
def test_a_damaged_idempotency_key_harms_no_submission(broker: FakeServer, value: str) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            await at.redis.set(keys.idempotency("k"), value.encode("latin-1"))
            answers = await asyncio.gather(at.submit(), at.submit(key="k"), at.submit(key="other"))
            assert not any(replay for _, replay in answers)
            assert (await at.submit(key="k"))[0] == answers[1][0]

    run(scenario())


def test_the_quota_of_an_owner_is_the_owners_own(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with desk(broker, jobs_open_max=3) as at:
            for _ in range(2):
                await at.submit(owner="alice")
            refused = await error_of(at.submit(owner="alice"), QuotaExceeded)
            assert refused.retry_after_seconds >= 5
            await at.submit(owner="bob")
            await error_of(at.submit(owner="bob"), QueueFull)

    run(scenario())


def test_bytes_of_an_owner_and_outcomes_to_come_are_limited(broker: FakeServer) -> None:
    rows = [[1.0, 2.0]] * 100

    async def scenario() -> None:
        async with desk(broker) as at:
            coming = outcome_bytes(MANIFEST, len(rows))
            at.admission.limits = JobLimits(coming_bytes=2 * coming, owner_bytes=2 * coming)
            await at.submit(rows, owner="alice")
            await error_of(at.submit(rows, owner="alice"), QuotaExceeded)
            await at.submit(rows, owner="bob")
            await error_of(at.submit(rows), QueueFull)
            await at.submit()

    run(scenario())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "sleeping"),
        ("status", "succeeded"),
        ("ended_at", "1.0"),
        ("model", b"\xff"),
        ("attempt", "x"),
        ("accepted_at", "nan"),
        ("accepted_at", "1e300"),
        ("started_at", "-1"),
        ("outcome", "{"),
        ("outcome", "[]"),
        ("outcome", '{"error":5}'),
    ],
)
def test_a_record_that_can_not_be_read_is_an_error_of_its_own_job(
    broker: FakeServer, name: str, value: str | bytes
) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id, _ = await at.submit()
            await at.redis.hset(keys.job(job_id), name, value)
            if name == "outcome":
                job = await at.reader.get(job_id)
                with pytest.raises(RecordDamaged):
                    _ = job and job.outcome
            else:
                await error_of(at.reader.get(job_id), RecordDamaged)
                await error_of(at.reader.waiters.wait(job_id, 5), RecordDamaged)
            assert await at.reader.get(job_id, "alice") is None
            await at.redis.set(keys.job(job_id), "no hash")
            await error_of(at.reader.get(job_id), RecordDamaged)
            await error_of(at.reader.waiters.wait(job_id, 5), RecordDamaged)

    run(scenario())
