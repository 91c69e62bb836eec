"""Connections fed by hand: what each is waiting for, and what it refuses."""

import asyncio
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.fairness.bodies import JSON
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.web import http_protocol
from gateway.web.exchange import Exchanges
from gateway.web.hot_cycle import HOT_ROUTES, HotCycle, HotRoutes
from gateway.web.hot_request import HotRequest
from gateway.web.http_protocol import PARSED_MAX_BYTES, STATE, HttpProtocol
from gateway.web.request_context import context_of
from gateway.web.request_parser import HEAD_MAX_BYTES, URL_MAX_BYTES
from gateway.web.slow_clients import LINES_PER_SECOND, ConnectionMonitor, Phase
from tests.support.coroutines import run, turns
from tests.unit.gateway.web.transports import RecordingTransport

HEAD = b"POST /predict HTTP/1.1\r\nHost: gateway\r\n"
CLOSING = HEAD + b"Connection: close\r\n"
LENGTH_5 = b"Content-Length: 5\r\n\r\n"
ENDLESS = b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = HEAD + LENGTH_5
CHUNKED = HEAD + ENDLESS
MORE_HEADERS = b"X-Long: " + b"x" * 1000 + b"\r\n"


@pytest.fixture(autouse=True, params=["by ASGI", "hot"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests come to the app by ASGI, and as those of a hot route where they can."""
    monkeypatch.setattr(App, "is_hot", request.param == "hot")


class App:
    """Reads each request's body, or not, and answers when the test says so."""

    is_hot = False
    template = "/predict"
    media_types: Collection[bytes] = (JSON,)

    def __init__(self, reads: bool = True) -> None:
        self.reads = reads
        self.scopes: list[Scope] = []
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        while self.reads and (await receive()).get("more_body"):
            pass
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def answer(self, request: HotRequest) -> None:
        """Answer a request that comes without ASGI."""
        assert isinstance(request, HotCycle)
        self.scopes.append({**request.scope, "path": self.template})
        await self.may_answer.wait()
        request.respond(200, [(b"content-length", b"0")], b"")

    def refuse(self, request: HotRequest, error: BaseException) -> None:
        """Fail: there is nothing to refuse."""
        raise AssertionError from error


class Connection:
    """A connection to an app, and its transport."""

    def __init__(self, app: App, connections_max: int = 10) -> None:
        self.app = app
        self.transport = RecordingTransport()
        self.rejected: list[str] = []
        self.monitor = ConnectionMonitor(GatewaySettings(connections_max=connections_max), self.rejected.append)
        self._config = Config(app, http=HttpProtocol, log_config=None, ws="none", lifespan="off")
        self.protocol = self.connect(self.transport)

    def connect(self, transport: RecordingTransport) -> HttpProtocol:
        routes = {"/predict": self.app} if self.app.is_hot and self.app.reads else {}
        state = {STATE: self.monitor, HOT_ROUTES: HotRoutes(routes, Exchanges(GatewayMetrics()))}
        protocol = HttpProtocol(self._config, ServerState(), state)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return protocol

    async def receive(self, *reads: bytes) -> None:
        for data in reads:
            protocol: Any = self.transport.get_protocol()
            protocol.data_received(data)
            await turns()

    async def answer(self) -> None:
        self.app.may_answer.set()
        await turns()

    def lose(self, why: Exception | None = None) -> None:
        self.transport.abort()
        protocol: Any = self.transport.get_protocol()
        protocol.connection_lost(why)

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
        connection.lose()


async def until_timers() -> None:
    """Let timers that are due run."""
    await asyncio.sleep(0.002)


def refusal(transport: RecordingTransport) -> str:
    """The code of the problem that a connection was closed with."""
    head, _, body = transport.writes[-1].partition(b"\r\n\r\n")
    assert b"connection: close" in head and transport.half_closed
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


@pytest.mark.parametrize("first", [HEAD, CHUNKED + b"1\r\n{\r\n0\r\n"], ids=["head", "trailers"])
def test_headers_and_trailers_are_limited(first: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(first)
            for _ in range(HEAD_MAX_BYTES // len(MORE_HEADERS)):
                await connection.receive(MORE_HEADERS)
            assert not connection.transport.is_closing()

            await connection.receive(MORE_HEADERS)
            assert refusal(connection.transport) == "head_too_large"

    run(scenario())


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("length", [100, HEAD_MAX_BYTES], ids=["in pieces", "at once"])
def test_a_complete_head_is_limited_to_the_byte(excess: int, length: int) -> None:
    counted = b"/predict" + HEAD.partition(b"\r\n")[2] + b"X-Long: \r\n" + LENGTH_5.removesuffix(b"\r\n")
    long = b"X-Long: " + b"x" * (HEAD_MAX_BYTES - len(counted) + excess) + b"\r\n"
    head = HEAD + long + LENGTH_5

    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(*(head[at : at + length] for at in range(0, len(head), length)))
            await turns(100)
            if excess:
                assert refusal(connection.transport) == "head_too_large"
            else:
                assert not connection.transport.writes
                assert connection.phase is Phase.BODY

    run(scenario())


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
def test_a_url_is_limited(method: bytes) -> None:
    async def scenario() -> None:
        for n_bytes in (URL_MAX_BYTES, URL_MAX_BYTES + 1):
            with connected(App()) as connection:
                await connection.receive(b"%b /%b HTTP/1.1\r\nHost: gateway\r\n\r\n" % (method, b"a" * (n_bytes - 1)))
                if n_bytes > URL_MAX_BYTES:
                    assert refusal(connection.transport) == "url_too_long"
                else:
                    assert not connection.transport.writes

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
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (2 * PARSED_MAX_BYTES)

    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(CHUNKED if chunked else head)
            await connection.answer()
            for _ in range(PARSED_MAX_BYTES // len(piece) + 1):
                await connection.receive(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            assert connection.transport.half_closed is chunked

    run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [HEAD + MORE_HEADERS * (3 * HEAD_MAX_BYTES // len(MORE_HEADERS)), b"GET\r\n\r\n", b"\x00" * 100],
    ids=["a head too large", "no request line", "no text"],
)
def test_what_is_refused_behind_a_request_does_not_take_the_place_of_its_answer(wrong: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            half = len(wrong) // 2
            await connection.receive(LENGTH + b"12345", wrong[:half], wrong[half:])
            assert connection.transport.writes == []
            assert connection.phase is None, "its callers may wait for the answer"

            await connection.answer()
            [answer] = connection.transport.writes
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
            assert connection.transport.half_closed

    run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [b"1\r\n{\r\n0\r\nContent-Length: 9\r\n\r\n", b"1\r\n{\r\nno size\r\n", b"no size\r\n" + LENGTH + b"12345"],
    ids=["a trailer", "a chunk", "a request behind it"],
)
@pytest.mark.parametrize("ahead", [1, 2])
def test_a_request_with_an_unreadable_body_is_refused_after_the_answers_before_it(
    wrong: bytes, ahead: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive((LENGTH + b"12345") * ahead + CHUNKED + wrong)
            assert connection.transport.writes == []
            assert connection.phase is None, "its caller may wait for the answers"

            await connection.answer()
            nothing, *answers, last = b"".join(connection.transport.writes).split(b"HTTP/1.1 ")
            assert nothing == b"" and len(answers) == len(connection.app.scopes) == ahead
            assert all(answer.startswith(b"200") and b"close" not in answer for answer in answers)
            assert last.startswith(b"400") and b"connection: close" in last and b"invalid_http" in last
            assert connection.transport.half_closed

    run(scenario())
    assert not caplog.records[1:], "the first one is that of the refusal"


def test_an_unreadable_body_behind_the_last_request_of_its_connection_is_ignored() -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(CLOSING + LENGTH_5 + b"12345" + CHUNKED + b"no size\r\n")
            await connection.answer()
            [answer] = connection.transport.writes
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer

    run(scenario())


def test_garbage_in_a_body_that_was_answered_gets_no_second_answer() -> None:
    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(CHUNKED)
            await connection.answer()
            await connection.receive(b"no size\r\n")
            assert len(connection.transport.writes) == 1
            assert connection.transport.half_closed

    run(scenario())


def test_an_answer_behind_the_refusal_of_its_body_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(CHUNKED, b"no size\r\n")
            assert refusal(connection.transport) == "invalid_http"
            await connection.answer()
            assert len(connection.transport.writes) == 1

    run(scenario())
    assert not caplog.records[1:], "the first one is that of the refusal"


@pytest.mark.parametrize(
    "sent",
    [
        CLOSING + LENGTH_5,
        CLOSING + LENGTH_5 + b"1",
        CLOSING + ENDLESS,
        CLOSING + b"\r\n",
        LENGTH + b"12345" + CLOSING + LENGTH_5,
    ],
    ids=["no body yet", "a part", "chunked", "no length", "behind another request"],
)
def test_a_caller_that_may_still_be_sending_is_not_reset(sent: bytes) -> None:
    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(sent)
            await connection.answer()
            transport = connection.transport
            assert b"connection: close" in transport.writes[-1]
            assert transport.half_closed and not transport.closed and not transport.aborted

            scopes = len(connection.app.scopes)
            await connection.receive(b"2345" + LENGTH, b"12345" + LENGTH)
            assert len(connection.app.scopes) == scopes, "discarded, and not parsed"
            assert connection.phase is None

    run(scenario())


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_request_that_was_read_is_closed_at_once(version: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(CLOSING.replace(b"1.1", version) + LENGTH_5 + b"12345")
            await connection.answer()
            assert connection.transport.closed and not connection.transport.half_closed

    run(scenario())


@pytest.mark.parametrize(("reads", "kept"), [(True, True), (False, False)])
def test_who_waits_to_be_asked_for_a_body_need_not_send_it(reads: bool, kept: bool) -> None:
    async def scenario() -> None:
        with connected(App(reads)) as connection:
            await connection.receive(HEAD + b"Expect: 100-continue\r\n" + LENGTH_5)
            if reads:
                assert connection.transport.writes.pop(0) == b"HTTP/1.1 100 Continue\r\n\r\n"
                await connection.receive(b"12345")
            await connection.answer()
            assert (b"connection: close" not in connection.transport.writes[-1]) is kept
            assert connection.transport.half_closed is not kept

    run(scenario())


def test_a_client_of_http_1_0_is_not_told_to_continue() -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(HEAD.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\n" + LENGTH_5)
            await connection.receive(b"12345")
            await connection.answer()
            assert not any(b"100 Continue" in each for each in connection.transport.writes)
            assert any(b" 200 OK" in each for each in connection.transport.writes)

    run(scenario())


def test_a_connection_whose_body_was_discarded_is_idle_like_any_other() -> None:
    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.receive(LENGTH + b"1")
            await connection.answer()
            await connection.receive(b"23", b"45")
            assert connection.phase is None
            timer = connection.protocol.timeout_keep_alive_task
            assert timer is not None
            assert timer.when() > asyncio.get_running_loop().time() + connection.protocol.timeout_keep_alive - 1

    run(scenario())


@pytest.mark.parametrize("why", [None, ConnectionResetError()], ids=["closed", "reset"])
def test_an_idle_connection_that_is_lost_leaves_no_timer(why: Exception | None) -> None:
    """Check that nothing keeps it in memory for the time that an idle connection has."""

    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(LENGTH + b"12345")
            await connection.answer()
            timer = connection.protocol.timeout_keep_alive_task
            assert timer is not None and timer.when() is not None
            connection.lose(why)
            assert timer.when() is None

    run(scenario())


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_a_request_that_asks_for_another_protocol_is_read_as_any_other(pieces: int) -> None:
    upgrade = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nX-Last: 1\r\n" + LENGTH_5 + b"GET /"
    sent = upgrade + LENGTH + b"12345"
    size = -(-len(sent) // pieces)

    async def scenario() -> None:
        app = App()
        app.may_answer.set()
        with connected(app) as connection:
            await connection.receive(*[sent[start : start + size] for start in range(0, len(sent), size)])
            assert [scope["path"] for scope in app.scopes] == ["/predict", "/predict"]
            assert [name for name, _ in app.scopes[0]["headers"]] == [
                b"host",
                b"connection",
                b"x-last",
                b"content-length",
            ]
            assert len(connection.transport.writes) == 2
            assert connection.phase is None

    run(scenario())


@pytest.mark.parametrize("target", [b"/predict", b"x:1"])
def test_a_tunnel_is_refused_after_the_answers_that_are_due(target: bytes) -> None:
    tunnel = b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"

    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(tunnel)
            assert refusal(connection.transport) == "invalid_http"
        with connected(App()) as connection:
            await connection.receive(LENGTH + b"12345" + tunnel)
            await connection.answer()
            assert connection.transport.writes[0].startswith(b"HTTP/1.1 200")
            assert len(connection.app.scopes) == 1

    run(scenario())


def test_trailers_are_no_headers() -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(CHUNKED, b"1\r\n{\r\n0\r\nAuthorization: Bearer x\r\n\r\n", LENGTH + b"12345")
            await connection.answer()
            heads = [[name for name, _ in scope["headers"]] for scope in connection.app.scopes]
            assert heads == [[b"host", b"transfer-encoding"], [b"host", b"content-length"]]

    run(scenario())


@pytest.mark.parametrize("trailer", [b"Connection: close", b"connection: upgrade", b"Proxy-Connection: close"])
def test_a_trailer_about_the_connection_ends_it(trailer: bytes) -> None:
    end = b"0\r\n" + trailer + b"\r\n\r\n"

    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(CHUNKED, b"1\r\n{\r\n" + end, LENGTH + b"12345")
            assert refusal(connection.transport) == "invalid_http"
            assert len(connection.app.scopes) == 1
        with connected(App(reads=False)) as connection:
            await connection.receive(CHUNKED, b"1\r\n{\r\n")
            await connection.answer()
            assert connection.transport.writes[0].startswith(b"HTTP/1.1 200")
            await connection.receive(end, LENGTH + b"12345")
            assert connection.protocol.transport.is_closing(), "nobody waits for an answer to the next request"
            assert len(connection.app.scopes) == 1

    run(scenario())


def test_unreadable_requests_are_counted_and_logged_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        with connected(App()) as connection:
            for _ in range(50):
                connection.connect(transport := RecordingTransport())
                protocol: Any = transport.get_protocol()
                protocol.data_received(b"garbage\r\n\r\n")
                assert refusal(transport) == "invalid_http"
                protocol = transport.get_protocol()
                protocol.connection_lost(None)
            assert connection.rejected == ["invalid_http"] * 50

    run(scenario())
    assert len(caplog.records) == LINES_PER_SECOND


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Host: a\r\nHost: b\r\n",
        b"Host: a b\r\n",
        b"Host: a/b\r\n",
        b"Host: me@a\r\n",
        b"Host: a\xff\r\n",
        b"Host: a\r\nAuthorization: Bearer one\r\nAuthorization: Bearer two\r\n",
        b"Host: a\r\nIdempotency-Key: a\r\nIDEMPOTENCY-KEY: b\r\n",
    ],
)
def test_headers_that_another_server_could_read_otherwise_are_no_http(headers: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(b"GET / HTTP/1.1\r\n" + headers + b"\r\n")
            assert refusal(connection.transport) == "invalid_http"
            assert connection.app.scopes == []

    run(scenario())


@pytest.mark.parametrize("host", [b"", b"a", b"A-1.b:80", b"127.0.0.1:8000", b"[::1]:8000", b"my_gateway"])
def test_names_and_addresses_are_hosts(host: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            await connection.answer()
            assert len(connection.app.scopes) == 1

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
        one_more.abort()
        refused.connection_lost(None)
        connection.lose()

    run(scenario())


@pytest.mark.parametrize(
    ("before", "after", "closing"),
    [
        (LENGTH + b"123", b"45", [True]),
        (LENGTH + b"12345" + LENGTH, b"12345", [False, True]),
        # The second is sent too late, and its caller learns that it was not taken.
        (LENGTH + b"123", b"45" + LENGTH, [True]),
        (b"", LENGTH + b"12345", [True]),
    ],
    ids=["running", "sent ahead", "sent behind", "on an idle connection"],
)
def test_at_the_stop_requests_are_the_last_of_their_connections(
    before: bytes, after: bytes, closing: list[bool]
) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            if before:
                await connection.receive(before)
            connection.monitor.stopping = True
            connection.protocol.finish()
            await connection.receive(after)
            await connection.answer()
            assert [b"connection: close" in answer for answer in connection.transport.writes] == closing
            assert connection.protocol.transport.is_closing()

    run(scenario())


@pytest.mark.parametrize(
    ("reads", "ending"),
    [([], "closed"), ([LENGTH + b"12345"], "closed"), ([LENGTH + b"1"], "half_closed"), ([HEAD], None)],
    ids=["fresh", "idle", "in an answered body", "in a head"],
)
def test_at_the_stop_idle_connections_end(
    monkeypatch: pytest.MonkeyPatch, reads: list[bytes], ending: str | None
) -> None:
    monkeypatch.setattr(http_protocol, "STRAY_SECONDS", 0)

    async def scenario() -> None:
        with connected(App(reads=False)) as connection:
            await connection.answer()
            await connection.receive(*reads)
            connection.protocol.shutdown()
            assert not connection.transport.is_closing() and not connection.transport.half_closed
            await until_timers()
            transport = connection.transport
            assert [name for name in ("closed", "half_closed") if getattr(transport, name)] == [ending][: bool(ending)]

            if ending is None:
                await connection.receive(b"\r\n")
                assert b"connection: close" in connection.transport.writes[-1]

    run(scenario())


def test_at_the_stop_a_head_that_never_ends_is_refused() -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(HEAD)
            connection.protocol.refuse_unfinished()
            assert refusal(connection.transport) == "stopping"

    run(scenario())


@pytest.mark.parametrize("ahead", [b"", LENGTH + b"12345"], ids=["alone", "with a request sent ahead"])
def test_the_running_request_hears_that_its_caller_has_left(ahead: bytes) -> None:
    async def scenario() -> None:
        with connected(App()) as connection:
            await connection.receive(LENGTH + b"12345" + ahead)
            left: list[bool] = []
            context_of(connection.app.scopes[0]).on_left = lambda: left.append(True)
            connection.lose(ConnectionResetError())
            assert left == [True]

    run(scenario())
