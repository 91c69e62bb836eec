import asyncio
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
import redis

from gateway.broker import raw_connection as module
from gateway.broker.raw_connection import RawConnection
from tests.support.coroutines import run, turns

OK = b":1\r\n"
RESP2 = b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$5\r\nreply\r\n$1\r\nx\r\n"
RESP3 = b"%1\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$5\r\nreply\r\n$1\r\nx\r\n"
PUSH = b">2\r\n$10\r\ninvalidate\r\n*0\r\n"


class FakeTransport:
    """One end of a connection: keeps the commands that are written to it, and answers when a test says so."""

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []
        self.aborted = False
        self.broken = False
        self._protocol: Any = None
        self._parser = hiredis.Reader()

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("the handler is closed")
        self._parser.feed(data)
        while command := self._parser.gets():
            self.commands.append(command)

    def abort(self) -> None:
        self.aborted = True

    def answer(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def lose(self) -> None:
        self._protocol.connection_lost(None)


class FakePool:
    """Maker of redis-py's connections: each is a fake transport."""

    def __init__(self) -> None:
        self.transports: list[FakeTransport] = []
        self.connection_kwargs: dict[str, Any] = {}

    def make_connection(self) -> Any:
        self.transports.append(FakeTransport())

        async def connect() -> None:
            await asyncio.sleep(0)

        writer = SimpleNamespace(transport=self.transports[-1])
        return SimpleNamespace(connect=connect, _reader=None, _writer=writer)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    pool = FakePool()

    def connect(_: str, timeout_seconds: float) -> SimpleNamespace:
        pool.connection_kwargs["socket_timeout"] = timeout_seconds
        return SimpleNamespace(connection_pool=pool)

    monkeypatch.setattr(module, "connect", connect)
    return pool


def opened(timeout_seconds: float = 5.0) -> RawConnection:
    return RawConnection("redis://nowhere", timeout_seconds)


async def pushing(connection: RawConnection, *values: bytes) -> "list[asyncio.Task[None]]":
    """Send a command per value, and return their tasks."""
    tasks = [asyncio.create_task(connection.lpush("list", value)) for value in values]
    await turns()
    return tasks


def test_answers_arrive_in_pieces_and_belong_to_the_commands_in_their_order(pool: FakePool) -> None:
    async def scenario() -> None:
        first, refused, last = await pushing(opened(), b"a", b"b", b"c")
        [transport] = pool.transports
        assert transport.commands == [[b"LPUSH", b"list", value] for value in (b"a", b"b", b"c")]

        for byte in OK + PUSH + b"-OOM no memory\r\n" + OK:
            transport.answer(bytes([byte]))

        await asyncio.gather(first, last)
        with pytest.raises(redis.ResponseError, match="no memory"):
            await refused
        assert not transport.aborted, "a refusal says nothing about the connection"

    run(scenario())


@pytest.mark.parametrize("answer", [RESP2, RESP3], ids=["RESP2", "RESP3"])
def test_both_protocols_give_the_same_entries(pool: FakePool, answer: bytes) -> None:
    async def scenario() -> None:
        connection = opened()
        reading = asyncio.create_task(connection.xread({"s": b"0"}, count=64, block=1000))
        await turns()
        [transport] = pool.transports
        assert transport.commands == [b"XREAD COUNT 64 BLOCK 1000 STREAMS s 0".split()]
        transport.answer(answer)
        assert await reading == [(b"s", [(b"1-0", {b"reply": b"x"})])]

        reading = asyncio.create_task(connection.xread({"s": b"1-0"}, count=64, block=1000))
        await turns()
        transport.answer(b"*-1\r\n" if answer is RESP2 else b"_\r\n")
        assert await reading == [], "nothing came in time"

    run(scenario())


def test_commands_of_a_lost_connection_are_sent_once_more(pool: FakePool) -> None:
    async def scenario() -> None:
        tasks = await pushing(opened(), b"a", b"b")
        pool.transports[0].lose()
        await turns()
        [lost, second] = pool.transports
        assert lost.aborted
        assert sorted(second.commands) == sorted(lost.commands)

        second.answer(OK)
        second.lose()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [type(None), redis.ConnectionError]
        assert len(pool.transports) == 2

    run(scenario())


def test_a_write_to_a_closed_connection_counts_as_lost(pool: FakePool) -> None:
    async def scenario() -> None:
        connection = opened()
        [first] = await pushing(connection, b"a")
        pool.transports[0].answer(OK)
        await first
        pool.transports[0].broken = True
        [second] = await pushing(connection, b"b")
        pool.transports[1].answer(OK)
        await second

    run(scenario())


def test_a_redis_that_does_not_answer_in_time_fails_all_commands_of_the_connection(pool: FakePool) -> None:
    async def scenario() -> None:
        connection = opened(timeout_seconds=0.01)
        ends = await asyncio.gather(*await pushing(connection, b"a", b"b"), return_exceptions=True)
        assert [type(end) for end in ends] == [redis.TimeoutError] * 2
        assert pool.transports[0].aborted, "a late answer would be taken for the one to the next command"

        [after] = await pushing(connection, b"c")
        pool.transports[1].answer(OK)
        await after

    run(scenario())


def test_the_answer_to_a_cancelled_command_is_dropped(pool: FakePool) -> None:
    async def scenario() -> None:
        cancelled, other = await pushing(opened(), b"a", b"b")
        cancelled.cancel()
        pool.transports[0].answer(b"-ERR for the first\r\n" + OK)
        await other

    run(scenario())


def test_a_connection_can_be_closed_unused_and_twice(pool: FakePool) -> None:
    async def scenario() -> None:
        connection = opened()
        await connection.aclose()
        assert pool.transports == []
        [answered] = await pushing(connection, b"a")
        pool.transports[0].answer(OK)
        await answered
        await connection.aclose()
        await connection.aclose()
        assert pool.transports[0].aborted

    run(scenario())
