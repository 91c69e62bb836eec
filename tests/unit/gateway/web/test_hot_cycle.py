"""Requests of a hot route on connections fed by hand: which are taken, how they are answered, and how they end."""

import asyncio
import gc
import logging
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.fairness.answers import PIECE_BYTES, AnswerBudget
from gateway.fairness.bodies import JSON, BodyReader
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.web.exchange import Exchanges
from gateway.web.hot_cycle import HOT_BODY_BYTES, HOT_ROUTES, HotRoutes
from gateway.web.hot_request import HotRequest, Steps
from gateway.web.http_protocol import STATE, HttpProtocol
from gateway.web.middleware import RequestMiddleware
from gateway.web.slow_clients import ConnectionMonitor
from shared.observability.log_context import log_context
from tests.support.coroutines import run, turns
from tests.unit.gateway.web.transports import RecordingTransport

LINE = b"POST /predict HTTP/1.1\r\n"
HOST = b"Host: gateway\r\n"
LENGTH_2 = b"Content-Length: 2\r\n\r\n"
REQUEST = LINE + HOST + LENGTH_2 + b"{}"


class Handler:
    """Keeps the requests for the test to answer."""

    template = "/predict"
    media_types: Collection[bytes] = (JSON,)

    def __init__(self) -> None:
        self.requests: list[HotRequest] = []
        self.steps: Callable[[HotRequest], Steps] | None = None
        self.refused: list[BaseException] = []
        self.contexts: list[Any] = []

    async def answer(self, request: HotRequest) -> None:
        """Keep a request, or take the test's steps."""
        self.requests.append(request)
        self.contexts.append(dict(log_context()))
        if self.steps is not None:
            await self.steps(request)

    def refuse(self, request: HotRequest, error: BaseException) -> None:
        """Answer with 503 to a cancellation, and with 500 to anything else."""
        self.refused.append(error)
        if isinstance(error, asyncio.CancelledError):
            request.respond(503, [(b"content-length", b"0")], b"")
        else:
            assert isinstance(error, Exception)
            request.crash(error)


class Site:
    """A connection whose hot route is answered by a handler, and everything else by an app."""

    def __init__(self, answers_max_bytes: int = 10_000_000) -> None:
        self.handler = Handler()
        self.transport = RecordingTransport()
        self.metrics = GatewayMetrics()
        self.answers = AnswerBudget(answers_max_bytes, self.metrics.rejected)
        exchanges = Exchanges(self.metrics, answers=self.answers)
        self.by_asgi: list[Scope] = []
        config = Config(RequestMiddleware(self.app, exchanges), http=HttpProtocol, log_config=None, ws="none")
        config.load()
        self.server = ServerState()
        self.server.default_headers = [(b"date", b"today")]
        monitor = ConnectionMonitor(GatewaySettings(), self.metrics.rejected)
        state = {STATE: monitor, HOT_ROUTES: HotRoutes({"/predict": self.handler}, exchanges)}
        self.protocol = HttpProtocol(config, self.server, state)
        self.transport.set_protocol(self.protocol)
        self.protocol.connection_made(self.transport)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by ASGI."""
        self.by_asgi.append(scope)
        await Response(b"ok", headers={"x-way": "asgi"})(scope, receive, send)

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            protocol: Any = self.transport.get_protocol()
            protocol.data_received(part)
        await turns()

    @property
    def request(self) -> HotRequest:
        """The last request."""
        return self.handler.requests[-1]

    @property
    def counted(self) -> dict[str, int]:
        """Number of requests by status."""
        self.metrics.write()
        [family] = self.metrics.http_requests.collect()
        counts: Counter[str] = Counter()
        for each in family.samples:
            if each.name.endswith("_total"):
                counts[each.labels["status"]] += int(each.value)
        return dict(counts)

    def lose(self) -> None:
        self.transport.abort()
        self.protocol.connection_lost(ConnectionResetError())


@contextmanager
def connected(**options: Any) -> Iterator[Site]:
    site = Site(**options)
    try:
        yield site
    finally:
        site.lose()


def ok(request: HotRequest, body: bytes = b"ok") -> None:
    request.respond(200, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))], body)


# --- which are taken


@pytest.mark.parametrize(
    ("request_bytes", "is_hot"),
    [
        (REQUEST, True),
        (LINE.replace(b"/predict", b"/predict?deadline=2") + HOST + LENGTH_2 + b"{}", True),
        (LINE.replace(b"1.1", b"1.0") + LENGTH_2 + b"{}", True),
        (LINE + HOST + b"Content-Length: %d\r\n\r\n" % HOT_BODY_BYTES + b"x" * HOT_BODY_BYTES, True),
        (LINE + HOST + b"Content-Length: %d\r\n\r\n" % (HOT_BODY_BYTES + 1) + b"x" * (HOT_BODY_BYTES + 1), False),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", False),
        (LINE + HOST + b"\r\n", False),
        (LINE + HOST + b"Expect: 100-continue\r\n" + LENGTH_2 + b"{}", False),
        (LINE.replace(b"POST", b"PUT") + HOST + LENGTH_2 + b"{}", False),
        (LINE.replace(b"/predict", b"/predict/") + HOST + LENGTH_2 + b"{}", False),
        (LINE.replace(b"/predict", b"/predic%74") + HOST + LENGTH_2 + b"{}", False),
        (LINE.replace(b"/predict", b"/predict?a#b") + HOST + LENGTH_2 + b"{}", False),
        (LINE.replace(b"/predict", b"http://gateway/predict") + HOST + LENGTH_2 + b"{}", False),
    ],
)
def test_small_requests_with_a_length_are_taken_and_others_go_through_asgi(request_bytes: bytes, is_hot: bool) -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(request_bytes)
            await turns(50)
            assert (len(site.handler.requests), len(site.by_asgi)) == ((1, 0) if is_hot else (0, 1))

    run(scenario())


def test_a_request_that_is_sent_ahead_waits_for_its_turn() -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(REQUEST + REQUEST)
            assert len(site.handler.requests) == 1 and site.by_asgi == []
            ok(site.request)
            await turns()
            assert len(site.by_asgi) == 1
            assert b"".join(site.transport.writes).count(b"HTTP/1.1 200") == 2
            await site.send(REQUEST)
            assert len(site.handler.requests) == 2, "the connection goes on"

    run(scenario())


@pytest.mark.parametrize("parts", [(b"{}",), (b"{", b"}")], ids=["at once", "in parts"])
def test_an_endpoint_gets_what_the_caller_sent(parts: tuple[bytes, ...]) -> None:
    async def scenario() -> None:
        with connected() as site:
            bodies: list[bytes] = []

            async def steps(request: HotRequest) -> None:
                bodies.append(await request.read(BodyReader(100, 1000)))

            site.handler.steps = steps
            head = LINE.replace(b"/predict", b"/predict?deadline=2") + HOST + b"X-Split-Key: a\r\n"
            await site.send(head, b"Content-Type: application/json\r\n" + LENGTH_2, *parts)
            assert bodies == [b"{}"]
            assert (site.request.query, site.request.headers[b"x-split-key"]) == (b"deadline=2", b"a")

    run(scenario())


# --- answers


def test_a_request_can_be_refused_before_its_body_is_complete() -> None:
    async def scenario() -> None:
        with connected() as site:

            async def steps(request: HotRequest) -> None:
                request.respond(415, [(b"content-length", b"0")], b"")

            site.handler.steps = steps
            await site.send(LINE + HOST + LENGTH_2 + b"{")
            assert site.transport.writes[0].startswith(b"HTTP/1.1 415")
            await site.send(b"}" + REQUEST)
            assert len(site.transport.writes) == 2, "the connection goes on"

    run(scenario())


def test_head_and_body_leave_in_one_write_as_they_would_by_asgi() -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(LINE + HOST + b"X-Request-ID: mine\r\n" + LENGTH_2 + b"{}")
            ok(site.request)
            await site.send(LINE.replace(b"predict", b"other") + HOST + b"X-Request-ID: mine\r\n" + LENGTH_2 + b"{}")
            await turns()
            hot, *by_asgi = site.transport.writes
            head, _, body = hot.partition(b"\r\n\r\n")
            assert body == b"ok"
            lines = {*b"".join(by_asgi).partition(b"\r\n\r\n")[0].split(b"\r\n")} - {b"x-way: asgi"}
            assert {*head.split(b"\r\n")} - {b"content-type: text/plain"} == lines
            assert b"x-request-id: mine" in lines and b"cache-control: no-store" in lines and b"date: today" in lines
            assert site.counted == {"200": 2}

    run(scenario())


@pytest.mark.parametrize("request_bytes", [LINE + HOST + b"Connection: close\r\n" + LENGTH_2 + b"{}"])
def test_a_connection_that_is_not_kept_is_told_and_closed(request_bytes: bytes) -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(request_bytes)
            ok(site.request)
            assert b"\r\nconnection: close\r\n\r\nok" in site.transport.writes[0]
            assert site.transport.closed

    run(scenario())


def test_a_large_answer_leaves_in_pieces_as_its_caller_takes_them() -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(REQUEST)
            body = b"x" * (2 * PIECE_BYTES + 1)
            site.protocol.pause_writing()
            ok(site.request, body)
            await turns()
            assert site.transport.writes == [] and site.counted == {}
            assert site.answers.held_bytes == len(body)
            site.protocol.resume_writing()
            await turns()
            assert b"".join(site.transport.writes).endswith(b"\r\n\r\n" + body)
            assert len(site.transport.writes) == 3
            assert (site.answers.held_bytes, site.counted) == (0, {"200": 1})
            await site.send(REQUEST)
            assert len(site.handler.requests) == 2

    run(scenario())


def test_a_small_answer_waits_for_the_caller_who_has_not_taken_the_last_one() -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(REQUEST)
            site.protocol.pause_writing()
            ok(site.request)
            await turns()
            assert site.transport.writes == []
            site.protocol.resume_writing()
            await turns()
            assert site.transport.writes[0].endswith(b"\r\n\r\nok")

    run(scenario())


def test_one_large_answer_too_many_is_refused() -> None:
    async def scenario() -> None:
        with connected(answers_max_bytes=PIECE_BYTES) as site:
            site.answers.hold(PIECE_BYTES, 0, "")
            await site.send(REQUEST)
            ok(site.request, b"x" * (PIECE_BYTES + 1))
            await turns()
            assert site.transport.writes[0].startswith(b"HTTP/1.1 503") and b"answers_full" in site.transport.writes[0]
            assert site.counted == {"503": 1}

    run(scenario())


def test_only_the_first_answer_is_sent() -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(REQUEST)
            for _ in range(2):
                ok(site.request)
            site.request.fail(ValueError())
            assert len(site.transport.writes) == 1 and site.handler.refused == []

    run(scenario())


# --- errors


async def _fails_later(request: HotRequest) -> None:
    await asyncio.sleep(0)
    raise ValueError("sesame")


async def _fails(request: HotRequest) -> None:
    raise ValueError("sesame")


@pytest.mark.parametrize("steps", [_fails, _fails_later])
def test_an_unforeseen_error_is_a_500_and_logged_with_the_id(
    steps: Callable[[HotRequest], Steps], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with connected() as site:
            site.handler.steps = steps
            await site.send(LINE + HOST + b"X-Request-ID: mine\r\n" + LENGTH_2 + b"{}")
            [answer] = site.transport.writes
            assert answer.startswith(b"HTTP/1.1 500") and b"internal_error" in answer and b"sesame" not in answer
            assert site.counted == {"500": 1}

    with caplog.at_level(logging.ERROR):
        run(scenario())
    [record] = caplog.records
    assert record.getMessage() == "request mine failed" and record.exc_info is not None


def test_log_lines_of_a_request_have_its_id_and_those_of_the_next_one_theirs() -> None:
    async def scenario() -> None:
        with connected() as site:
            later: list[Any] = []

            async def steps(request: HotRequest) -> None:
                await asyncio.sleep(0)
                later.append(dict(log_context()))

            site.handler.steps = steps
            for at in (b"1", b"2"):
                await site.send(LINE + HOST + b"X-Request-ID: " + at + b"\r\n" + LENGTH_2 + b"{}")
                ok(site.request)
            assert site.handler.contexts == later == [{"request_id": b"1"}, {"request_id": b"2"}]
            assert log_context() == {}

    run(scenario())


# --- the end


def test_what_is_held_is_given_back_once_whenever_it_was_taken() -> None:
    async def scenario() -> None:
        with connected() as site:
            given_back: list[str] = []
            await site.send(REQUEST)
            request = site.request
            request.at_end(lambda: given_back.append("before"))
            ok(request)
            request.at_end(lambda: given_back.append("after"))
            assert given_back == ["before", "after"]

    run(scenario())


def test_a_caller_who_leaves_ends_the_request_and_its_task() -> None:
    async def scenario() -> None:
        site = Site()
        ended: list[str] = []

        async def steps(request: HotRequest) -> None:
            request.at_end(lambda: ended.append("given back"))
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append("cancelled")

        site.handler.steps = steps
        await site.send(REQUEST)
        site.lose()
        await turns()
        assert ended == ["given back", "cancelled"]
        assert site.counted == {"499": 1} and site.server.tasks == set()
        ok(site.request)
        assert site.transport.writes == []

    run(scenario())


def test_a_caller_who_leaves_before_the_body_is_complete_is_counted() -> None:
    async def scenario() -> None:
        site = Site()
        site.handler.steps = read
        await site.send(LINE + HOST + b"Content-Type: application/json\r\n" + LENGTH_2 + b"{")
        site.lose()
        await turns()
        assert (site.counted, site.handler.refused, site.server.tasks) == ({"499": 1}, [], set())

    run(scenario())


def test_a_caller_who_leaves_while_a_large_answer_is_sent_ends_it() -> None:
    async def scenario() -> None:
        site = Site()
        await site.send(REQUEST)
        site.protocol.pause_writing()
        ok(site.request, b"x" * (2 * PIECE_BYTES))
        await turns()
        site.lose()
        await turns()
        assert (site.transport.writes, site.answers.held_bytes, site.server.tasks) == ([], 0, set())
        assert site.counted == {"200": 1}

    run(scenario())


async def read(request: HotRequest) -> None:
    await request.read(BodyReader(100, 1000))


@pytest.mark.parametrize("body", [b"{}", b"{"], ids=["that waits", "whose body is arriving"])
def test_a_stop_ends_a_request(body: bytes) -> None:
    async def scenario() -> None:
        with connected() as site:
            site.handler.steps = read
            await site.send(LINE + HOST + b"Content-Type: application/json\r\n" + LENGTH_2 + body)
            site.protocol.finish()
            [waiting] = site.server.tasks
            waiting.cancel()
            await turns()
            assert isinstance(site.handler.refused[0], asyncio.CancelledError)
            assert site.transport.writes[0].startswith(b"HTTP/1.1 503")
            assert b"connection: close" in site.transport.writes[0] and site.server.tasks == set()
            assert site.counted == {"503": 1}

    run(scenario())


def test_a_stop_lets_an_answer_that_is_being_sent_go_on() -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(REQUEST)
            site.protocol.pause_writing()
            body = b"x" * (2 * PIECE_BYTES)
            ok(site.request, body)
            [sending] = site.server.tasks
            sending.cancel()
            await turns()
            site.protocol.resume_writing()
            await turns()
            assert b"".join(site.transport.writes).endswith(b"\r\n\r\n" + body)
            assert (site.answers.held_bytes, site.counted, site.handler.refused) == (0, {"200": 1}, [])

    run(scenario())


def test_an_answered_request_needs_no_garbage_collector() -> None:
    async def scenario() -> list["weakref.ref[HotRequest]"]:
        with connected() as site:
            seen = []
            for _ in range(2):
                await site.send(REQUEST)
                ok(site.request)
                seen.append(weakref.ref(site.handler.requests.pop()))
            await turns()
            # The connection keeps its last one.
            return seen[:1]

    gc.disable()
    try:
        assert [request() for request in run(scenario())] == [None]
    finally:
        gc.enable()


def test_a_step_that_need_not_wait_makes_no_task() -> None:
    async def scenario() -> None:
        with connected() as site:
            await site.send(REQUEST)
            before = asyncio.all_tasks()

            async def respond() -> None:
                ok(site.request)

            site.request.run(respond())
            assert site.transport.writes and asyncio.all_tasks() == before

    run(scenario())
