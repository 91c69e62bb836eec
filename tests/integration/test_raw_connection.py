"""The gateway's own connection, against a real Redis that answers, refuses, hangs, drops connections and is away."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from gateway.broker.raw_connection import RawConnection
from gateway.broker.redis_client import connect
from tests.support.coroutines import run, until
from tests.support.stack import Stack

HANGS_SECONDS = 0.3
CLIENT_NAME = "raw"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start only the broker of a stack."""
    folder = tmp_path_factory.mktemp("stack")
    stack = Stack(folder, folder, workers=0)
    try:
        stack.start_broker()
        yield stack
    finally:
        stack.close()


@asynccontextmanager
async def opened(stack: Stack, timeout_seconds: float = 5.0, protocol: int = 3) -> AsyncIterator[RawConnection]:
    connection = RawConnection(f"{stack.redis_url}?protocol={protocol}&client_name={CLIENT_NAME}", timeout_seconds)
    try:
        yield connection
    finally:
        await connection.aclose()


def connections(stack: Stack, field: str = "id") -> list[str]:
    clients: Any = stack.redis.client_list()
    return [client[field] for client in clients if client["name"] == CLIENT_NAME]


def play(stack: Stack, scenario: Coroutine[Any, Any, None]) -> None:
    stack.redis.flushall()
    run(scenario)
    # No connection was left open.
    run(until("connections are closed", lambda: not connections(stack)))


@pytest.mark.parametrize("protocol", [2, 3])
def test_answers_equal_those_of_redis_py(stack: Stack, protocol: int) -> None:
    async def scenario() -> None:
        client = connect(stack.redis_url, 5.0)
        async with opened(stack, protocol=protocol) as connection:
            for value in (b"a", b"\r\n\x00", b"c" * 1_000_000):
                await connection.lpush("list", value)
            assert await connection.xread({"stream": b"0"}, 10, 1) == []
            for number in range(3):
                await client.xadd("stream", {"reply": str(number), "other": b"\xff"})
            assert await client.lrange("list", 0, -1) == [b"c" * 1_000_000, b"\r\n\x00", b"a"]
            theirs: Any = await client.xread({"stream": b"0"}, count=2, block=1)
            assert await connection.xread({"stream": b"0"}, 2, 1) == [
                (name, [tuple(entry) for entry in entries]) for name, entries in theirs
            ]
        await client.aclose()

    play(stack, scenario())


def test_many_at_once_share_one_connection(stack: Stack) -> None:
    async def scenario() -> None:
        async with opened(stack) as connection:
            await asyncio.gather(*(connection.lpush("list", b"%d" % number) for number in range(500)))
            assert len(connections(stack)) == 1
        assert stack.redis.llen("list") == 500

    play(stack, scenario())


def test_a_refused_command_is_an_error_and_the_connection_is_kept(stack: Stack) -> None:
    async def scenario() -> None:
        stack.redis.set("text", "x")
        async with opened(stack) as connection:
            refused, taken = await asyncio.gather(
                connection.lpush("text", b"1"), connection.lpush("list", b"1"), return_exceptions=True
            )
            assert isinstance(refused, redis.ResponseError)
            assert taken is None
            assert len(connections(stack)) == 1

    play(stack, scenario())


def test_a_connection_that_was_dropped_is_made_again_and_the_command_sent_again(stack: Stack) -> None:
    async def scenario() -> None:
        async with opened(stack) as connection:
            await connection.lpush("list", b"1")
            [first] = connections(stack)
            waiting = asyncio.create_task(connection.xread({"stream": b"0"}, 10, 4000))
            await until("it waits", lambda: "b" in connections(stack, "flags")[0])
            stack.redis.client_kill_filter(_id=first)
            await until("another connection", lambda: connections(stack) not in ([], [first]))
            stack.redis.xadd("stream", {"reply": "1"})
            [(_, [(_, fields)])] = await waiting
            assert fields == {b"reply": b"1"}

    play(stack, scenario())


def test_a_redis_that_hangs_is_an_error_in_time_and_its_late_answers_are_dropped(stack: Stack) -> None:
    async def scenario() -> None:
        async with opened(stack, HANGS_SECONDS) as connection:
            await connection.lpush("list", b"before")
            stack.broker.signal(signal.SIGSTOP)
            try:
                # The first ends by its own deadline, the ones after it with the connection.
                ends = await asyncio.gather(
                    *(connection.lpush("list", b"%d" % number) for number in range(3)), return_exceptions=True
                )
            finally:
                stack.broker.signal(signal.SIGCONT)
            assert [type(end) for end in ends] == [redis.TimeoutError] * 3
            await connection.lpush("list", b"after")
            assert stack.redis.lindex("list", 0) == b"after"

    play(stack, scenario())


def test_a_caller_who_gives_up_leaves_the_others_their_answers(stack: Stack) -> None:
    async def scenario() -> None:
        async with opened(stack) as connection:
            stack.redis.xadd("stream", {"reply": "1"})
            await connection.lpush("list", b"0")
            given_up = asyncio.create_task(connection.lpush("list", b"1"))
            stays = asyncio.create_task(connection.xread({"stream": b"0"}, 10, 1))
            await asyncio.sleep(0)
            given_up.cancel()
            [(name, _)] = await stays
            assert name == b"stream"
            assert given_up.cancelled()

    play(stack, scenario())


def test_a_redis_that_is_away_is_an_error_at_once_until_it_is_back(stack: Stack) -> None:
    async def scenario() -> None:
        async with opened(stack) as connection:
            await connection.lpush("list", b"1")
            stack.broker.kill()
            try:
                for _ in range(2):
                    with pytest.raises(redis.ConnectionError):
                        await connection.lpush("list", b"2")
            finally:
                stack.start_broker()
            await connection.lpush("list", b"3")

    play(stack, scenario())


def test_nothing_is_left_of_a_wire_that_was_closed_twice_or_never_used(stack: Stack) -> None:
    async def scenario() -> None:
        async with opened(stack):
            pass
        async with opened(stack) as connection:
            await connection.lpush("list", b"1")
            await connection.aclose()

    play(stack, scenario())
