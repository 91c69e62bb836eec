import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from fakeredis import FakeServer

from gateway.fleet import FORGET_SECONDS, Fleet
from shared import keys
from shared.announcement import LIVE_SECONDS
from shared.clock import BrokerClock
from tests.support.coroutines import run
from tests.unit.gateway.fakes import connected


@asynccontextmanager
async def fleet(broker: FakeServer, clock: BrokerClock | None = None) -> AsyncIterator[tuple[Fleet, Any]]:
    async with connected(broker) as client:
        yield Fleet(client, clock or BrokerClock()), client


def announcement(age_seconds: float = 0.0, slots: Any = 2, **more: Any) -> str:
    return json.dumps({"at": time.time() - age_seconds, "slots": slots, "models": ["iris v1"], **more})


async def announce(client: Any, **announcements: str) -> None:
    await client.hset(keys.WORKERS, mapping=announcements)


def test_before_the_first_look_nobody_is_known(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with fleet(broker) as (known, _):
            assert (known.workers, known.slots) == ({}, 0)

    run(scenario())


def test_the_slots_of_all_live_workers_add_up(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with fleet(broker) as (known, client):
            await announce(client, a=announcement(slots=2), b=announcement(slots=3, age_seconds=1))
            await known.refresh()
            assert set(known.workers) == {"a", "b"}
            assert known.slots == 5
            assert known.workers["a"].models == ["iris v1"]

    run(scenario())


@pytest.mark.parametrize(
    ("age_seconds", "counts", "kept"),
    [
        (0.0, True, True),
        (LIVE_SECONDS - 2, True, True),
        (LIVE_SECONDS + 2, False, True),
        (FORGET_SECONDS - 5, False, True),
        (FORGET_SECONDS + 5, False, False),
        # From before the broker's clock was set back: it would count for as long as that step was.
        (-LIVE_SECONDS - 2, False, True),
        (-3600.0, False, False),
    ],
)
def test_an_announcement_counts_while_it_is_fresh(
    broker: FakeServer, age_seconds: float, counts: bool, kept: bool
) -> None:
    async def scenario() -> None:
        async with fleet(broker) as (known, client):
            await announce(client, fresh=announcement(), a=announcement(age_seconds))
            await known.refresh()
            assert set(known.workers) == ({"fresh", "a"} if counts else {"fresh"})
            assert known.slots == (4 if counts else 2)
            assert await client.hexists(keys.WORKERS, "a") == kept

    run(scenario())


@pytest.mark.parametrize(
    "garbage", ["", "text", "null", "[]", "{}", announcement(slots="many"), announcement(slots=1.5)]
)
def test_garbage_is_ignored_and_put_away(broker: FakeServer, garbage: str) -> None:
    async def scenario() -> None:
        async with fleet(broker) as (known, client):
            await announce(client, a=announcement(), b=garbage)
            await client.hset(keys.WORKERS, b"\xff", garbage)
            await known.refresh()
            assert set(known.workers) == {"a"}
            assert await client.hkeys(keys.WORKERS) == [b"a"]

    run(scenario())


def test_a_name_that_is_no_text_hides_nobody(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with fleet(broker) as (known, client):
            await announce(client, a=announcement())
            await client.hset(keys.WORKERS, b"\xff", announcement())
            await known.refresh()
            assert known.slots == 4

    run(scenario())


def test_what_a_newer_worker_says_besides_is_no_garbage(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with fleet(broker) as (known, client):
            await announce(client, a=announcement(zone="north"))
            await known.refresh()
            assert known.slots == 2

    run(scenario())


def test_while_redis_does_not_answer_nobody_is_known_to_be_alive(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with fleet(broker) as (known, client):
            await announce(client, a=announcement())
            await known.refresh()
            assert known.slots == 2
            broker.connected = False
            with pytest.raises(redis.ConnectionError):
                await known.refresh()
            assert (known.workers, known.slots) == ({}, 0)
            broker.connected = True
            await known.refresh()
            assert known.slots == 2

    run(scenario())


def test_a_look_also_reads_the_brokers_clock(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = BrokerClock()
    true_time = time.time

    async def scenario() -> None:
        monkeypatch.setattr(time, "time", lambda: true_time() + 3600)
        async with fleet(broker, clock) as (known, client):
            await announce(client, a=announcement())
            await known.refresh()
            assert abs(clock.now() - true_time() - 3600) < 1
            assert known.slots == 2, "ages are counted by that clock"

    run(scenario())
