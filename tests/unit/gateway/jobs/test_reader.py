import asyncio
import json
from typing import Any

import pytest
from fakeredis import FakeServer

from gateway.broker import redis_client
from gateway.errors import Overloaded
from gateway.fairness.answers import PIECE_BYTES, AnswerBudget
from gateway.jobs import reader
from gateway.jobs.reader import READ_TOGETHER, JobReader
from gateway.jobs.record import Record
from gateway.problems import Problem
from gateway.web.request_context import RequestContext
from shared.queue import keys
from tests.support.coroutines import run, turns
from tests.unit.gateway.jobs.test_service import Desk, desk

SMALL = '{"predictions":["short"]}'
LARGE = json.dumps({"predictions": ["long"] * PIECE_BYTES})


async def ended(at: Desk, owner: str, outcome: str, status: str = "succeeded") -> str:
    job_id, _ = await at.submit(owner=owner)
    await at.finish(job_id, status, outcome)
    return job_id


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time."""
    for module in (reader, redis_client):
        monkeypatch.setattr(module, "COMMAND_SECONDS", 60.0)


@pytest.fixture
def outcomes_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the jobs whose outcomes are read, in order."""
    read: list[str] = []
    record = JobReader._record

    async def noted(self: JobReader, key: str, owner: str, outcome_max_bytes: int) -> Record:
        found = await record(self, key, owner, outcome_max_bytes)
        if b"outcome" in found:
            read.append(key.removeprefix(keys.job("")))
        return found

    monkeypatch.setattr(JobReader, "_record", noted)
    return read


@pytest.mark.parametrize("status", ["succeeded", "failed"])
@pytest.mark.parametrize("seconds", [None, 1000.0])
def test_a_large_outcome_counts_before_it_is_read_and_a_share_of_the_limit_is_left_for_others(
    broker: FakeServer, outcomes_read: list[str], status: str, seconds: float | None
) -> None:
    budget = AnswerBudget(4 * len(LARGE), lambda _: None)

    async def asked(at: Desk, job_id: str, owner: str) -> int:
        hold = RequestContext(owner=owner, answers=budget).hold_answer
        asking = at.reader.get(job_id, owner, hold) if seconds is None else at.reader.wait(job_id, seconds, owner, hold)
        job = await asking
        assert job is not None and job.ended
        return len(job.outcome_json or b"")

    async def scenario() -> None:
        async with desk(broker) as at:
            [large, small], [others_large, others_small] = [
                [await ended(at, owner, outcome, status) for outcome in (LARGE, SMALL)] for owner in ("a", "b")
            ]
            crowd = await asyncio.gather(*(asked(at, large, "a") for _ in range(20)), return_exceptions=True)
            assert crowd.count(len(LARGE)) == outcomes_read.count(large) == 2, "half of the limit"
            assert {problem.code for problem in crowd if isinstance(problem, Problem)} == {"answers_full"}
            assert await asked(at, small, "a") == len(SMALL)
            assert await asked(at, others_small, "b") == len(SMALL)
            assert await asked(at, others_large, "b") == len(LARGE)

    run(scenario())


@pytest.mark.parametrize("outcome", [SMALL, LARGE])
def test_the_outcome_of_another_owners_job_is_not_read(
    broker: FakeServer, outcomes_read: list[str], outcome: str
) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id = await ended(at, "a", outcome)
            assert await at.reader.get(job_id, "b") is None
            assert await at.reader.wait(job_id, 1000, "b") is None
            assert outcomes_read == []
            # The read of one owner that is under way is no answer to the other.
            others, own = await asyncio.gather(at.reader.wait(job_id, 1000, "b"), at.reader.wait(job_id, 1000, "a"))
            assert (others, own is None, outcomes_read) == (None, False, [job_id])

    run(scenario())


@pytest.mark.parametrize("delete", [False, True])
def test_a_result_that_goes_before_it_is_read_is_told_as_gone(broker: FakeServer, delete: bool) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            job_id = await ended(at, "", LARGE)
            job = await at.reader.waiters.wait(job_id, 1000)
            assert job is not None and (job.unread_bytes, job.outcome_json) == (len(LARGE), None)
            await at.redis.hdel(keys.job(job_id), "outcome")
            await at.redis.hset(keys.job(job_id), "result_dropped", "1")
            if delete:
                await at.jobs.delete(job_id)
            found = await at.reader._complete(job, "", lambda _: None)
            assert found is None if delete else found is not None and found.result_dropped

    run(scenario())


def test_a_few_records_are_read_at_a_time_those_of_the_owners_in_rotation(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with desk(broker) as at:
            order = []
            may_end = asyncio.Event()

            async def slowly(self: JobReader, key: str, owner: str, outcome_max_bytes: int) -> Record:
                order.append(owner)
                await may_end.wait()
                return {}

            monkeypatch.setattr(JobReader, "_record", slowly)
            owners = ["a"] * 5 * READ_TOGETHER + ["b"]
            callers = [
                asyncio.create_task(at.reader.get(f"job {number}", owner)) for number, owner in enumerate(owners)
            ]
            await turns()
            assert order == ["a"] * READ_TOGETHER
            may_end.set()
            assert set(await asyncio.gather(*callers)) == {None}
            assert order[READ_TOGETHER : READ_TOGETHER + 2] == ["b", "a"]

    run(scenario())


def test_callers_of_a_crowd_do_not_wait_longer_for_a_turn_than_for_redis(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "COMMAND_SECONDS", 0.01)

    async def scenario() -> None:
        async with desk(broker) as at:
            may_end = asyncio.Event()

            async def slowly(*_: Any) -> Record:
                await may_end.wait()
                return {}

            monkeypatch.setattr(JobReader, "_record", slowly)
            callers = [asyncio.create_task(at.reader.get(f"job {number}")) for number in range(3 * READ_TOGETHER)]
            await asyncio.wait(callers[READ_TOGETHER:])
            may_end.set()
            answers = await asyncio.gather(*callers, return_exceptions=True)
            assert answers[:READ_TOGETHER] == [None] * READ_TOGETHER
            assert {type(answer) for answer in answers[READ_TOGETHER:]} == {Overloaded}

    run(scenario())
