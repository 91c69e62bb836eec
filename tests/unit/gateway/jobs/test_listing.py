import asyncio
import json
from typing import Any

import pytest
from fakeredis import FakeServer

from gateway.errors import BrokerUnavailable, Overloaded
from gateway.jobs import listing
from gateway.jobs.listing import JobFilter, JobListing
from gateway.settings import GatewaySettings
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import JobStatus
from tests.support.coroutines import run, turns
from tests.unit.gateway.fakes import connected, error_of
from tests.unit.gateway.jobs.test_service import Desk

EVERYTHING = JobFilter()


def made(redis: Any) -> JobListing:
    return JobListing(redis, BrokerClock(), GatewaySettings())


def test_pages_follow_each_other_while_jobs_come_and_go(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with connected(broker) as redis:
            desk, jobs = Desk(redis), made(redis)
            ids = [(await desk.submit())[0] for _ in range(7)]
            first = await jobs.page(EVERYTHING, 3, None)
            await desk.submit()
            await desk.finish(ids[2])
            await desk.jobs.delete(ids[2])
            second = await jobs.page(EVERYTHING, 3, first.cursor)
            third = await jobs.page(EVERYTHING, 3, second.cursor)
            assert [[job.id for job in page.jobs] for page in (first, second)] == [
                ids[:3:-1],
                [ids[3], ids[1], ids[0]],
            ]
            assert (second.cursor, third.jobs[0].id) == (None, (await jobs.page(EVERYTHING, 1, None)).jobs[0].id)

    run(scenario())


def test_a_cursor_with_more_jobs_than_its_list_has_repeats_none(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "READ_TOGETHER", 2)

    async def scenario() -> None:
        async with connected(broker) as redis:
            desk, jobs = Desk(redis), made(redis)
            ids = [(await desk.submit())[0] for _ in range(3)]
            for cursor in ("999999999-3", "999999999-999999999"):
                page = await jobs.page(EVERYTHING, 500, cursor)
                assert ([job.id for job in page.jobs], page.cursor) == (ids[::-1], None)

    run(scenario())


def test_failed_jobs_are_found_among_any_number_and_told_with_their_error(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "READ_TOGETHER", 15)
    monkeypatch.setattr(listing, "READ_MAX", 60)
    error = {"code": "prediction_failed", "message": "m", "rows": [0, 17]}

    async def scenario() -> None:
        async with connected(broker) as redis:
            desk, jobs = Desk(redis), made(redis)
            failed, _ = await desk.submit(owner="alice")
            await desk.finish(failed, "failed", json.dumps({"error": error}, separators=(",", ":")))
            for _ in range(30):
                await desk.finish((await desk.submit(owner="alice"))[0])
            page = await jobs.page(JobFilter(status=JobStatus.FAILED), 10, None, "alice")
            [job] = page.jobs
            assert (job.id, job.status, page.cursor) == (failed, JobStatus.FAILED, None)
            assert job.outcome == {"error": {**error, "rows": []}}
            assert job.ended_at is not None and job.compute_seconds == 0.5
            # Without an index of their own, they are looked for in pages that may be empty.
            empty = await jobs.page(JobFilter(model="other"), 10, None, "alice")
            assert (empty.jobs, empty.cursor is None) == ([], False)
            assert (await jobs.page(JobFilter(model="other"), 10, empty.cursor, "alice")).cursor is None
            assert (await jobs.page(EVERYTHING, 10, None, "bob")).jobs == []

    run(scenario())


def test_without_redis_there_is_no_list(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with connected(broker) as redis:
            broker.connected = False
            await error_of(made(redis).page(EVERYTHING, 10, None), BrokerUnavailable)

    run(scenario())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "sleeping"),
        ("model", b"\xff"),
        ("attempt", "x"),
        ("attempt", "9" * 20),
        ("started_at", "nan"),
        ("accepted_at", "1e20"),
    ],
)
def test_a_damaged_record_is_left_out_of_the_list(
    broker: FakeServer, caplog: pytest.LogCaptureFixture, name: str, value: str | bytes
) -> None:
    async def scenario() -> None:
        async with connected(broker) as redis:
            desk, jobs = Desk(redis), made(redis)
            ids = [(await desk.submit())[0] for _ in range(3)]
            await redis.hset(keys.job(ids[1]), name, value)
            page = await jobs.page(EVERYTHING, 10, None)
            assert [job.id for job in page.jobs] == [ids[2], ids[0]]
            assert ids[1] in caplog.text or name == "accepted_at"

    run(scenario())


def test_long_errors_make_pages_short_and_none_is_lost(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "READ_TOGETHER", 20)
    monkeypatch.setattr(listing, "READ_MAX", 40)
    outcome = json.dumps({"error": {"code": "x", "message": "m", "rows": [*range(3000)]}}, separators=(",", ":"))
    assert 10_000 < len(outcome) < 20_000

    async def scenario() -> None:
        async with connected(broker) as redis:
            desk, jobs = Desk(redis), made(redis)
            ids = [(await desk.submit())[0] for _ in range(9)]
            for job_id in ids:
                await desk.finish(job_id, "failed", outcome)
            pages, cursor = [], None
            for _ in range(20):
                found = await jobs.page(JobFilter(status=JobStatus.FAILED), 50, cursor)
                pages.append([job.id for job in found.jobs])
                cursor = found.cursor
                if cursor is None:
                    break
            assert [job_id for page in pages for job_id in page] == ids[::-1]
            assert max(map(len, pages)) == 4, "two in each of the two calls"

    run(scenario())


def test_so_many_records_are_looked_at_for_a_page_and_the_next_goes_on(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "READ_TOGETHER", 20)
    monkeypatch.setattr(listing, "READ_MAX", 60)

    async def scenario() -> None:
        async with connected(broker) as redis:
            desk, jobs = Desk(redis), made(redis)
            wanted, _ = await desk.submit()
            for _ in range(listing.READ_MAX):
                await desk.finish((await desk.submit())[0])
            queued = JobFilter(status=JobStatus.QUEUED)
            first = await jobs.page(queued, 50, None)
            assert (first.jobs, first.cursor is None) == ([], False), "READ_MAX records, and no more"
            second = await jobs.page(queued, 50, first.cursor)
            assert ([job.id for job in second.jobs], second.cursor) == ([wanted], None)

    run(scenario())


def test_one_page_is_read_at_a_time_those_of_the_owners_in_rotation(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with connected(broker) as redis:
            order, may_end = [], asyncio.Event()
            monkeypatch.setattr(listing, "COMMAND_SECONDS", 60.0)

            async def slowly(self: JobListing, args: list[Any]) -> list[Any]:
                order.append(args[1])
                await may_end.wait()
                return [[]]

            monkeypatch.setattr(JobListing, "_read", slowly)
            jobs = made(redis)
            callers = [asyncio.create_task(jobs.page(EVERYTHING, 10, None, owner)) for owner in "aaaab"]
            await turns()
            assert order == ["a"]
            may_end.set()
            await asyncio.gather(*callers)
            assert order == ["a", "b", "a", "a", "a"]

    run(scenario())


def test_who_would_wait_long_for_a_page_is_refused(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "COMMAND_SECONDS", 0.01)

    async def scenario() -> None:
        async with connected(broker) as redis:
            may_end = asyncio.Event()

            async def slowly(*_: Any) -> list[Any]:
                await may_end.wait()
                return [[]]

            monkeypatch.setattr(JobListing, "_read", slowly)
            jobs = made(redis)
            first = asyncio.create_task(jobs.page(EVERYTHING, 10, None))
            await turns()
            await error_of(jobs.page(EVERYTHING, 10, None), Overloaded)
            may_end.set()
            assert (await first).jobs == []

    run(scenario())
