"""Connections fed by hand: what each is waiting for, and what it refuses."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.settings import GatewaySettings
from gateway.web.http_protocol import DISCARDED_MAX_BYTES, HEAD_MAX_BYTES, STATE, HttpProtocol
from gateway.web.request_context import context_of
from gateway.web.slow_clients import ConnectionMonitor, Phase
from tests.support.coroutines import run, turns
from tests.unit.gateway.web.transports import RecordingTransport

HEAD = b"POST /predict HTTP/1.1\r\nHost: gateway\r\n"
LENGTH = HEAD + b"Content-Length: 5\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MORE_HEADERS = b"X-Long: " + b"x" * 1000 + b"\r\n"


class App:
    """Reads each request's body, or not, and answers when the test says so."""

    def __init__(self, reads: bool = True) -> None:
        self.reads = reads
        self.scopes: list[Scope] = []
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        while self.reads and (await receive()).get("more_body"):
            pass
        await self.may_answer.wait()
        write = context_of(scope).write_response
        assert write is not None
        write(200, [(b"content-length", b"0")], b"")


class Connection:
    """A connection to an app, and its transport."""

    def __init__(self, app: App, connections_max: int = 10) -> None:
        self.app = app
        self.transport = RecordingTransport()
        self.monitor = ConnectionMonitor(GatewaySettings(connections_max=connections_max), lambda reason: None)
        self._config = Config(app, http=HttpProtocol, log_config=None, ws="none", lifespan="off")
        self.protocol = self.connect(self.transport)

    def connect(self, transport: RecordingTransport) -> HttpProtocol:
        protocol = HttpProtocol(self._config, ServerState(), {STATE: self.monitor})
        protocol.connection_made(transport)
        return protocol

    async def receive(self, *reads: bytes) -> None:
        for data in reads:
            self.protocol.data_received(data)
            await turns()

    async def answer(self) -> None:
        self.app.may_answer.set()
        await turns()

    @property
    def phase(self) -> Phase | None:
        awaited = self.protocol.awaited_phase()
        return None if awaited is None else awaited[0]


@contextmanager
def connected(app: App) -> Iterator[Connection]:
    connection = Connection(app)
    try:
        yield connection
    finally:
        app.may_answer.set()
        connection.protocol.connection_lost(None)


def refusal(transport: RecordingTransport) -> str:
    """The code of the problem that a connection was closed with."""
    head, _, body = transport.writes[-1].partition(b"\r\n\r\n")
    assert b"connection: close" in head and transport.closed
    kind: str = json.loads(body)["type"]
    return kind.removeprefix("urn:headrace:problem:")


@pytest.mark.parametrize(
    ("reads", "phase"),
    [
        ([], Phase.HEAD),
        ([b"P"], Phase.HEAD),
        ([HEAD], Phase.HEAD),
        ([LENGTH], Phase.BODY),
        ([LENGTH, b"12"], Phase.BODY),
        ([LENGTH, b"12345"], None),
        ([LENGTH + b"12345"], None),
        ([CHUNKED + b"1\r\n{\r\n0\r\n", b"X-Trailer: 1\r\n"], Phase.BODY),
        ([CHUNKED + b"1\r\n{\r\n0\r\n\r\n"], None),
        ([LENGTH + b"12345" + HEAD], Phase.HEAD),
        # The second request is not read before its turn.
        ([LENGTH + b"12345" + LENGTH], None),
    ],
)
def test_each_part_of_a_request_is_awaited_in_turn(reads: list[bytes], phase: Phase | None) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(*reads)
            assert connection.phase is phase

            connection.transport.unread_bytes = 1
            assert connection.phase is Phase.ANSWER

    run(scenario())


def test_an_answered_connection_may_stay_idle_but_not_send_line_breaks() -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(LENGTH + b"12345")
            await connection.answer()
            assert connection.transport.writes[0].startswith(b"HTTP/1.1 200")
            assert connection.phase is None

            await connection.receive(b"\r\n")
            assert connection.phase is Phase.HEAD

    run(scenario())


def test_a_body_that_was_answered_unread_is_still_awaited() -> None:
    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(LENGTH + b"1")
            await connection.answer()
            assert connection.phase is Phase.BODY

            await connection.receive(b"2345" + LENGTH)
            assert len(connection.app.scopes) == 2
            assert not connection.transport.is_closing()

    run(scenario())


@pytest.mark.parametrize(
    ("first", "last"),
    [(HEAD, 431), (LENGTH + b"12345" + HEAD, 431), (CHUNKED + b"1\r\n{\r\n0\r\n", None)],
    ids=["head", "head of a second request", "trailers"],
)
def test_headers_and_trailers_are_limited(first: bytes, last: int | None) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(first)
            for _ in range(HEAD_MAX_BYTES // len(MORE_HEADERS)):
                await connection.receive(MORE_HEADERS)
            assert not connection.transport.is_closing()

            await connection.receive(MORE_HEADERS)
            if last is None:
                assert connection.transport.aborted
            else:
                assert refusal(connection.transport) == "head_too_large"

    run(scenario())


def test_a_body_in_many_pieces_is_not_taken_for_trailers() -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(CHUNKED)
            for _ in range(2 * HEAD_MAX_BYTES // 1000):
                await connection.receive(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
            await connection.receive(b"0\r\n", MORE_HEADERS)
            assert not connection.transport.is_closing()

    run(scenario())


def test_each_request_has_a_limit_of_its_own() -> None:
    pieces = [MORE_HEADERS] * (HEAD_MAX_BYTES // len(MORE_HEADERS))

    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.answer()
            for _ in range(2):
                await connection.receive(HEAD, *pieces, b"\r\n")
            assert len(connection.app.scopes) == 2
            assert not connection.transport.is_closing()

    run(scenario())


@pytest.mark.parametrize("chunked", [True, False])
def test_a_chunked_body_that_is_discarded_has_an_end(chunked: bool) -> None:
    piece = b"x" * 1_000_000
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (2 * DISCARDED_MAX_BYTES)

    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(CHUNKED if chunked else head)
            await connection.answer()
            for _ in range(DISCARDED_MAX_BYTES // len(piece) + 1):
                await connection.receive(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            assert connection.transport.aborted is chunked

    run(scenario())


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"])
def test_not_exactly_one_host_is_no_http(hosts: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n")
            assert refusal(connection.transport) == "invalid_http"
            assert connection.app.scopes == []

    run(scenario())


@pytest.mark.parametrize(
    ("reads", "phase", "answered"),
    [
        ([], Phase.HEAD, False),
        ([HEAD], Phase.HEAD, True),
        ([LENGTH + b"1"], Phase.BODY, True),
        ([LENGTH + b"1"], Phase.ANSWER, False),
        # The first request's response is still due.
        ([LENGTH + b"12345" + HEAD], Phase.HEAD, False),
    ],
)
def test_a_slow_caller_is_told_so_if_it_has_begun_a_request(reads: list[bytes], phase: Phase, answered: bool) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(*reads)
            connection.protocol.cut_off(phase)
            if answered:
                assert refusal(connection.transport) == "too_slow"
            else:
                assert connection.transport.aborted and not connection.transport.writes

    run(scenario())


def test_one_connection_too_many_is_refused() -> None:
    async def scenario() -> None:
        connection = Connection(App(), connections_max=1)
        one_more = RecordingTransport()
        refused = connection.connect(one_more)
        assert refusal(one_more) == "connections_full"
        refused.connection_lost(None)
        connection.protocol.connection_lost(None)

    run(scenario())


@pytest.mark.parametrize("ahead", [b"", LENGTH + b"12345"], ids=["alone", "with a request sent ahead"])
def test_a_caller_who_leaves_fails_what_the_running_request_waits_for(ahead: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(LENGTH + b"12345" + ahead)
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            context_of(connection.app.scopes[0]).wait_for(answer)
            connection.protocol.connection_lost(ConnectionResetError())
            assert isinstance(answer.exception(), ClientDisconnect)

    run(scenario())
