import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from fakeredis import FakeServer

from gateway.broker.workers import FORGET_SECONDS, Workers
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.heartbeat import LIVE_SECONDS, PINNED_MAX
from tests.support.coroutines import run
from tests.unit.gateway.fakes import connected


@asynccontextmanager
async def workers(broker: FakeServer, clock: BrokerClock | None = None) -> AsyncIterator[tuple[Workers, Any]]:
    async with connected(broker) as client:
        yield Workers(client, clock or BrokerClock()), client


def heartbeat(age_seconds: float = 0.0, slots: Any = 2, **more: Any) -> str:
    return json.dumps({"at": time.time() - age_seconds, "slots": slots, **more})


async def announce(client: Any, **heartbeats: str) -> None:
    await client.hset(keys.WORKERS, mapping=heartbeats)


def test_before_the_first_read_no_worker_is_known(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, _):
            assert (known.heartbeats, known.slots) == ({}, 0)

    run(scenario())


def test_the_slots_of_all_live_workers_add_up(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat(slots=2), b=heartbeat(slots=3, age_seconds=1))
            await known.refresh()
            assert set(known.heartbeats) == {"a", "b"}
            assert known.slots == 5
            assert known.heartbeats["a"].pinned == []

    run(scenario())


@pytest.mark.parametrize(
    ("age_seconds", "counts", "kept"),
    [
        (0.0, True, True),
        (LIVE_SECONDS - 2, True, True),
        (LIVE_SECONDS + 2, False, True),
        (FORGET_SECONDS - 5, False, True),
        (FORGET_SECONDS + 5, False, False),
        # Written before the broker's clock was set back: it would count until the clock has caught up.
        (-LIVE_SECONDS - 2, False, True),
        (-3600.0, False, False),
    ],
)
def test_a_heartbeat_counts_while_it_is_fresh(broker: FakeServer, age_seconds: float, counts: bool, kept: bool) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, fresh=heartbeat(), a=heartbeat(age_seconds))
            await known.refresh()
            assert set(known.heartbeats) == ({"fresh", "a"} if counts else {"fresh"})
            assert known.slots == (4 if counts else 2)
            assert await client.hexists(keys.WORKERS, "a") == kept

    run(scenario())


@pytest.mark.parametrize(
    "garbage",
    [
        *("", "text", "null", "[]", "{}", heartbeat(slots="many"), heartbeat(slots=1.5)),
        *(heartbeat(slots=-5), heartbeat(slots=10**9), heartbeat(slots=10**400), heartbeat(busy=-9)),
        *(heartbeat(overdue=10**400), heartbeat(pinned=["a b"]), heartbeat(age_seconds=float("nan"))),
        heartbeat(pinned=[f"m{at}" for at in range(PINNED_MAX + 1)]),
        heartbeat(more="x" * 1_000_000),
    ],
    ids=[
        *("nothing", "text", "null", "list", "empty", "a number in words", "half a slot"),
        *("slots below 0", "slots beyond a worker's", "digits", "busy below 0"),
        *("digits of overdue", "pinned to no name", "no time", "pinned to many", "large"),
    ],
)
def test_garbage_is_ignored_named_and_deleted(
    broker: FakeServer, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat(), b=garbage)
            await client.hset(keys.WORKERS, b"\xff", garbage)
            await known.refresh()
            assert set(known.heartbeats) == {"a"}
            assert await client.hkeys(keys.WORKERS) == [b"a"]

    run(scenario())

    assert "the heartbeat of b'b' is damaged" in caplog.text


def test_a_name_that_is_no_text_hides_nobody(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat())
            await client.hset(keys.WORKERS, b"\xff", heartbeat())
            await known.refresh()
            assert known.slots == 4

    run(scenario())


def test_unknown_fields_of_a_newer_worker_are_ignored(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat(zone="north"))
            await known.refresh()
            assert known.slots == 2

    run(scenario())


def test_while_redis_does_not_answer_no_worker_counts_as_live(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat())
            await known.refresh()
            assert known.slots == 2
            broker.connected = False
            with pytest.raises(redis.ConnectionError):
                await known.refresh()
            assert (known.known, known.heartbeats, known.slots) == (False, {}, 0)
            broker.connected = True
            await known.refresh()
            assert (known.known, known.slots) == (True, 2)

    run(scenario())


def test_a_refresh_also_reads_the_brokers_clock(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = BrokerClock()
    true_time = time.time

    async def scenario() -> None:
        monkeypatch.setattr(time, "time", lambda: true_time() + 3600)
        async with workers(broker, clock) as (known, client):
            await announce(client, a=heartbeat())
            await known.refresh()
            assert abs(clock.now() - true_time() - 3600) < 1
            assert known.slots == 2, "ages are counted by that clock"

    run(scenario())


def child(*loaded: str, age_seconds: float = 0.0, refused: dict[str, str] | None = None) -> str:
    return json.dumps({"at": time.time() - age_seconds, "loaded": loaded, "refused": refused or {}})


async def announce_children(client: Any, **children: str) -> None:
    """Announce children by worker and slot: `a_0` is `a/0`."""
    await client.hset(keys.CHILDREN, mapping={name.replace("_", "/"): beat for name, beat in children.items()})


def test_pinned_workers_are_a_group_of_their_own(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            assert known.groups == [""]
            await announce(
                client,
                a=heartbeat(slots=2),
                b=heartbeat(slots=3, pinned=["iris"]),
                c=heartbeat(slots=5, pinned=["iris", "sticks"]),
            )
            await known.refresh()
            assert [known.slots_of(group) for group in ("", "iris", "sticks", "stones")] == [2, 8, 5, 0]
            assert known.slots == 10
            assert known.groups == ["", "iris", "sticks"]
            assert [known.group_for(model) for model in ("iris", "stones")] == ["iris", ""]
            await client.hdel(keys.WORKERS, "b", "c")
            await known.refresh()
            assert known.group_for("iris") == "", "its own workers are gone"

    run(scenario())


def test_a_worker_has_a_version_when_all_of_its_children_have(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat(), b=heartbeat(), c=heartbeat())
            await announce_children(
                client,
                a_0=child("iris v1", "iris v2"),
                a_1=child("iris v1"),
                # Called for no version of iris yet.
                a_2=child("iris-2 v1"),
                b_0=child("iris-2 v1"),
                gone_0=child("x y"),
            )
            await known.refresh()
            assert known.loaded_by("iris v1") == {"a": False, "b": False, "c": False}
            assert known.loaded_by("iris-2 v1") == {"a": False, "b": True, "c": False}
            assert known.loaded_by("iris v2") == {"a": False, "b": False, "c": False}
            assert known.holders("iris", "v1") == {"a": True}
            assert known.holders("iris", "v2") == {"a": False}
            assert (known.holders("iris-2", "v1"), known.holders("x", "y")) == ({"a": True, "b": True}, {})

    run(scenario())


def test_only_the_workers_of_a_models_group_count(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat(), b=heartbeat(pinned=["iris"]))
            await announce_children(client, a_0=child("iris v1", "sticks v1"), b_0=child("iris v2"))
            await known.refresh()
            assert known.holders("iris", "v1") == {"b": False}
            assert known.loaded_by("iris v1") == {"b": False}
            assert known.loaded_by("sticks v1") == {"a": True}

    run(scenario())


def test_refusals_are_reported_by_their_reasons(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat())
            refused = {"iris v2": "no such file"}
            await announce_children(
                client, a_0=child(refused=refused), a_1=child(refused=refused), a_2=child("iris v1")
            )
            await known.refresh()
            assert known.refusals("iris v2") == {"no such file"}
            assert known.refusals("iris v1") == set()

    run(scenario())


def test_a_child_that_is_silent_counts_no_more(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with workers(broker) as (known, client):
            await announce(client, a=heartbeat())
            await announce_children(
                client,
                a_0=child("iris v1"),
                a_1=child("iris v0", age_seconds=LIVE_SECONDS + 1),
                a_2=child("iris v0", age_seconds=FORGET_SECONDS + 1),
                a_3="garbage",
            )
            await known.refresh()
            assert known.loaded_by("iris v1") == {"a": True}
            assert sorted(await client.hkeys(keys.CHILDREN)) == [b"a/0", b"a/1"]
            broker.connected = False
            with pytest.raises(redis.ConnectionError):
                await known.refresh()
            assert (known.children, known.groups, known.holders("iris", "v1")) == ({}, [""], {})

    run(scenario())
