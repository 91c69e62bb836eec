"""Costs that a caller's bytes may cause: chunks, headers and requests of a few bytes each, and turns of connections."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.web import request_parser
from gateway.web.request_parser import HEADERS_MAX, SLICE_BYTES, SMALL_CHUNKS_MAX, ReadTurns
from tests.support.coroutines import run, turns, until
from tests.unit.gateway.web.test_http_protocol import CHUNKED, HEAD, LENGTH, App, Connection, connected, refusal
from tests.unit.gateway.web.transports import RecordingTransport

READ_BYTES = 256_000
"""Bytes of uvloop's largest read."""

TINY = b"1\r\n \r\n"
END = b"0\r\n\r\n"


class PausingTransport(RecordingTransport):
    """A transport with bytes to read, one read per turn of the event loop while reading is not paused."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Keeping(App):
    """Keeps the body of a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body = b""

        async def keep() -> Message:
            message = await receive()
            self.body += message["body"]
            return message

        await super().__call__(scope, keep, send)


def paused(connection: Connection) -> PausingTransport:
    """Connect once more, by a transport that notes pauses."""
    transport = PausingTransport()
    connection.transport = transport
    connection.protocol = connection.connect(transport)
    return transport


@pytest.fixture(params=[0.0, 60.0], ids=["a slice per turn", "all in a turn"])
def turn_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_parser, "TURN_SECONDS", request.param)


@pytest.mark.parametrize("reads", [True, False], ids=["before the answer", "after it"])
@pytest.mark.parametrize("piece", [TINY, b"1;a=b\r\n \r\n", b"0001\r\n \r\n"], ids=["plain", "extension", "zeros"])
def test_a_body_of_tiny_chunks_is_refused(turn_seconds: None, reads: bool, piece: bytes) -> None:
    async def scenario() -> None:
        with connected(App(reads)) as connection:
            await connection.receive(CHUNKED)
            if not reads:
                await connection.answer()
            await connection.receive(*[piece * (READ_BYTES // len(piece))])
            await turns(100)
            assert connection.transport.half_closed, "what follows is discarded unparsed"
            if reads:
                assert refusal(connection.transport) == "too_many_chunks"
            else:
                [answer] = connection.transport.writes
                assert answer.startswith(b"HTTP/1.1 200")

    run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        TINY * SMALL_CHUNKS_MAX + END,
        (b"28\r\n" + b" " * 40 + b"\r\n") * 20_000 + END,
        (b"1\r\n \r\n3a\r\n" + b" " * 58 + b"\r\n") * 20_000 + END,
    ],
    ids=["few tiny ones", "many short rows", "tiny and short in turn"],
)
@pytest.mark.parametrize("read_bytes", [50, 1400, READ_BYTES])
def test_chunks_that_a_client_may_send_are_no_reason(turn_seconds: None, body: bytes, read_bytes: int) -> None:
    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(CHUNKED)
            await connection.answer()
            for start in range(0, len(body), read_bytes):
                connection.protocol.data_received(body[start : start + read_bytes])
                if read_bytes > SLICE_BYTES:
                    await turns(1000)
            assert not connection.transport.is_closing() and not connection.transport.half_closed
            await connection.receive(LENGTH + b"12345")
            assert len(connection.transport.writes) == 2, "each request has a limit of its own"

    run(scenario())


def test_trailers_count_as_chunks() -> None:
    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(CHUNKED)
            await connection.answer()
            await connection.receive(b"1\r\n \r\n0\r\n" + b"a:\r\n" * (SMALL_CHUNKS_MAX // 4))
            assert not connection.transport.half_closed
            await connection.receive(*[b"a:\r\n" * (SMALL_CHUNKS_MAX // 4)] * 8)
            assert connection.transport.half_closed

    run(scenario())


@pytest.mark.parametrize(("headers", "code"), [(HEADERS_MAX, None), (HEADERS_MAX + 1, "head_too_large")])
def test_headers_are_counted(headers: int, code: str | None) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(HEAD + b"a:\r\n" * (headers - 1) + b"\r\n")
            await connection.answer()
            if code is None:
                assert connection.transport.writes[-1].startswith(b"HTTP/1.1 200")
            else:
                assert refusal(connection.transport) == code

    run(scenario())


def test_requests_that_are_sent_ahead_are_read_a_few_at_a_time() -> None:
    ahead = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
    count = READ_BYTES // len(ahead)

    async def scenario() -> None:
        with connected(App()) as connection:
            transport = paused(connection)
            connection.protocol.data_received(ahead * count)
            assert not transport.reading
            connection.app.may_answer.set()
            most = 0
            while len(transport.writes) < count:
                await asyncio.sleep(0)
                most = max(most, len(connection.protocol.pipeline))
            assert 0 < most <= SLICE_BYTES // len(ahead)
            await turns()
            assert transport.reading, "all are answered"

    run(scenario())


def test_a_large_body_arrives_whole(turn_seconds: None) -> None:
    body = bytes(range(256)) * (READ_BYTES // 256)

    async def scenario() -> None:
        app = Keeping()
        with connected(app) as connection:
            transport = paused(connection)
            app.may_answer.set()
            connection.protocol.data_received(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert not transport.reading
            await until("it is answered", lambda: transport.writes)
            assert app.body == body
            await turns()
            assert transport.reading

    run(scenario())


def test_others_have_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_parser, "TURN_SECONDS", 0.0)

    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            connection.app.may_answer.set()
            transports = [paused(connection) for _ in range(3)]
            for transport in transports:
                protocol: Any = transport.get_protocol()
                protocol.data_received((CHUNKED + TINY * 4000 + END) * 10)
            count = 0
            while not any(transport.reading for transport in transports):
                await asyncio.sleep(0)
                count += 1
            assert count >= 3 * (READ_BYTES // SLICE_BYTES - 10), "a slice of all connections in each turn of the loop"
            await turns()
            assert all(transport.reading for transport in transports), "they have turns in rotation"
            assert [len(transport.writes) for transport in transports] == [10] * 3

    run(scenario())


def test_a_step_that_raises_leaves_others_their_turns() -> None:
    async def scenario() -> None:
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        steps: list[str] = []
        read_turns = ReadTurns()
        read_turns.ask(lambda: steps.append("first"))
        read_turns.ask([].pop)
        read_turns.ask(lambda: steps.append("second"))
        await turns()
        assert (steps, list(map(type, errors))) == (["first", "second"], [IndexError])

    run(scenario())


def test_what_a_closing_connection_has_read_is_dropped() -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            transport = paused(connection)
            connection.protocol.data_received((HEAD + b"Content-Length: 5\r\n\r\n12345") * 1000)
            transport.abort()
            scopes = len(connection.app.scopes)
            connection.app.may_answer.set()
            await turns()
            assert len(connection.app.scopes) <= scopes + 1

    run(scenario())
