"""uvicorn's HTTP/1.1 protocol with limits on what a caller may send and how long it may take."""

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.problems import Problem, overloaded, stopping
from gateway.web.hot_cycle import HOT_ROUTES, HotCycle, HotRoutes
from gateway.web.idle_timer import IdleTimer
from gateway.web.lingering import HURRIED_SECONDS, LINGERING_SECONDS, LingeringTransport, end_unless_continued
from gateway.web.request_context import CONTEXT, RequestContext
from gateway.web.request_parser import (
    CHUNK_BYTES,
    HEAD_MAX_BYTES,
    HEADERS_MAX,
    SLICE_BYTES,
    SMALL_CHUNKS_MAX,
    Incoming,
    Reads,
    check_head,
    check_trailer,
    head_too_large,
    parse,
    reason_of,
    refusal,
    too_many_chunks,
    too_many_headers,
    will_be_parsed_again,
)
from gateway.web.slow_clients import ConnectionMonitor, Phase

STATE = "connections"
"""Key of the lifespan's state that holds the process's `ConnectionMonitor`."""

PARSED_MAX_BYTES = 16_000_000
"""Bytes still parsed of a chunked body whose request is answered already; no more are parsed for the next request."""

STRAY_SECONDS = 0.1
"""Time at a stop in which a request may arrive on an idle connection that its caller believes to be open."""

_BODY_HEADERS = {b"content-length", b"transfer-encoding"}
_TOO_SLOW = Problem(408, "too_slow", "the request took too long to arrive")


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _part_bytes = 0
    """Bytes of a head, or between two pieces of a body, from a request's second slice on."""

    _part_scope: object = None
    """Scope of the request that these bytes belong to."""

    _chunk_bytes_left = 0
    """Bytes that further chunks of the body may take; each takes `CHUNK_BYTES`, and what arrives is added."""

    _running: "RequestResponseCycle | HotCycle | None" = None
    """The request that is being answered; uvicorn's `cycle` is the last one received."""

    def connection_made(self, transport: Any) -> None:
        """Admit a new connection, or refuse it if too many are open."""
        self._monitor: ConnectionMonitor = self.app_state[STATE]
        self._hot_routes: HotRoutes | None = self.app_state.get(HOT_ROUTES)
        self._lingering = LingeringTransport(transport, self._may_send_more)
        self._reads = Reads(self._monitor.read_turns, transport, self._receive, self._may_parse)
        self._lingering.resume_reading = self._reads.resume
        self._idle_timer: Any = IdleTimer(self.loop, self.timeout_keep_alive, self.timeout_keep_alive_handler)
        super().connection_made(self._lingering)  # type: ignore[arg-type]
        if not self._monitor.add(self):
            # Waiting takes a file descriptor, of which there are only so many beyond the limit.
            seconds = HURRIED_SECONDS if self._monitor.may_refuse_slowly else 0
            self._refuse(overloaded("connections_full", "too many connections are open", 2), seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered that its caller left."""
        self._monitor.remove(self)
        # The timer would keep a connection that was reset in memory until it is over.
        self._idle_timer.close()
        if self._running is not None:
            # uvicorn marks only the last request; an earlier one would write to a closed transport.
            self._running.disconnected = True
            context: RequestContext = self._running.scope[CONTEXT]  # type: ignore[literal-required]
            if context.on_left is not None:
                context.on_left()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; if it is much, let others have their turn in between."""
        if len(data) <= SLICE_BYTES:
            self._receive(data)
        else:
            self._reads.begin(data)

    def _may_parse(self) -> bool:
        """Return True unless requests that were sent ahead, a body or the end of the connection have their turn."""
        if self.pipeline:
            # uvicorn reads on after each answer, however many are still due.
            self.flow.pause_reading()
        return not (self.flow.read_paused or self._lingering.is_closing())

    def _receive(self, data: bytes | memoryview) -> None:
        """Parse a part of what has arrived, and enforce the limits on heads, trailers and discarded bodies."""
        self._unset_keepalive_if_required()
        try:
            parse(self, data)
        except httptools.HttpParserError as error:
            self._monitor.unreadable()
            self._refuse_unreadable(reason_of(error))
            return
        incoming = self._incoming()
        if incoming is Incoming.NOTHING:
            return
        if self._part_scope is not self.scope:
            # The first slice of a request is not counted: part of it may be the end of the request before.
            self._part_scope, self._part_bytes = self.scope, 0
            return
        self._part_bytes += len(data)
        self._chunk_bytes_left += len(data)
        if incoming is Incoming.DISCARDED_BODY:
            if self._part_bytes > PARSED_MAX_BYTES and (b"transfer-encoding", b"chunked") in self.scope["headers"]:
                self._lingering.linger()
        elif incoming is Incoming.BODY and self.cycle.body:
            self._part_bytes = 0
        elif self._part_bytes > HEAD_MAX_BYTES:
            self._refuse_unreadable(head_too_large())

    def _incoming(self) -> Incoming:
        """Derive from uvicorn's fields which part of a request is being received."""
        cycle = self.cycle
        # A request begins with a scope of its own, and gets its cycle when its headers are complete.
        if cycle is None or cycle.scope is not self.scope:
            return Incoming.HEAD
        if not cycle.more_body:
            return Incoming.NOTHING
        return Incoming.DISCARDED_BODY if cycle.response_complete else Incoming.BODY

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header of the head, as uvicorn does; the trailers of a chunked body are dropped.

        The request is authorized and routed by its head, and a proxy in front has seen no other headers.

        Raises:
            Problem: if there are too many, or `check_trailer` does. The parser stops with an error.
        """
        if self.cycle is not None and self.cycle.scope is self.scope:
            check_trailer(name)
            self.on_chunk_header()
            return
        if len(self.headers) >= HEADERS_MAX:
            raise too_many_headers()
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            # A client of HTTP/1.0 would take 100 for the answer (RFC 9110, section 10.1.1).
            self.expect_100_continue = self.parser.get_http_version() != "1.0"
        self.headers.append((name, value))

    def on_chunk_header(self) -> None:
        """Count a chunk, or a trailer, which costs as much.

        Raises:
            Problem: 400 if there are too many for the body's bytes. The parser stops with an error.
        """
        self._chunk_bytes_left -= CHUNK_BYTES
        if self._chunk_bytes_left < 0:
            raise too_many_chunks()

    def on_headers_complete(self) -> None:
        """Start a request whose head is complete, unless it will be parsed again without its `Upgrade`.

        Raises:
            ValueError, Problem: if `check_head` does. The parser stops with an error.
        """
        if will_be_parsed_again(self.parser):
            return
        check_head(self.parser.get_http_version(), self.url, self.headers)
        self._chunk_bytes_left = SMALL_CHUNKS_MAX * CHUNK_BYTES
        if (hot := self._hot_routes.take(self) if self._hot_routes else None) is not None:
            self.cycle = self._running = hot  # type: ignore[assignment]
        else:
            super().on_headers_complete()
        if self._monitor.stopping:
            self.cycle.keep_alive = False
        if self.expect_100_continue:
            end_unless_continued(self.cycle, lambda: self._monitor.stopping)

    def on_message_complete(self) -> None:
        """Note the end of a request, also of one that was answered before it; uvicorn does not note the latter."""
        if will_be_parsed_again(self.parser):
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if self.cycle.response_complete and not self.transport.is_closing():
            # Its body has ended the time that an idle connection has.
            self.timeout_keep_alive_task = self._idle_timer.start()

    def on_response_complete(self) -> None:
        """Go on to the next request of the connection: as uvicorn does, with one timer for all of them."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self.timeout_keep_alive_task = self._idle_timer.start()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for too long."""
        if self.cycle.response_complete:
            super().timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.scope[CONTEXT] = RequestContext()  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)

    def _may_send_more(self) -> bool:
        """Return True if the caller may be sending something that will not be read."""
        if self._incoming() is not Incoming.NOTHING or self.flow.read_paused:
            return True
        # HTTP/1.0 had bodies without a length, which is their connection's end. They are not read, but sent.
        scope = self.cycle.scope
        return scope["method"] == "POST" and not _BODY_HEADERS & {name for name, _ in scope["headers"]}

    def awaited_phase(self) -> tuple[Phase, Any] | None:
        """Return what the caller must do next and for which request; None if it need do nothing."""
        cycle = self.cycle
        if self.transport.get_write_buffer_size():
            return Phase.ANSWER, cycle
        incoming = self._incoming()
        if self.transport.is_closing():
            return None
        # Reading pauses while requests that were sent ahead wait for their turn.
        if incoming is Incoming.HEAD:
            return None if self.flow.read_paused else (Phase.HEAD, self.scope)
        if incoming is not Incoming.NOTHING and not self.pipeline:
            return Phase.BODY, cycle
        # Line breaks before a request end the time of an idle connection, and begin no request.
        return (Phase.HEAD, cycle) if cycle.response_complete and self.timeout_keep_alive_task is None else None

    def cut_off(self, phase: Phase) -> None:
        """End the connection: with a response if the caller has begun a request and no other response is due."""
        if phase is not Phase.ANSWER and self._answerable():
            self._refuse(_TOO_SLOW, HURRIED_SECONDS)
        else:
            self.transport.abort()

    def _answerable(self) -> bool:
        """Return True if the caller has begun a request that is not answered, and no other answer is due before it."""
        incoming = self._incoming()
        begun = incoming is Incoming.BODY or (incoming is Incoming.HEAD and self.scope is not None)
        return begun and not self._answer_due(incoming)

    def _answer_due(self, incoming: Incoming) -> bool:
        """Return True if the caller would take a refusal for the answer to a request that it sent before."""
        if (cycle := self.cycle) is None or cycle.response_complete:
            return False
        return incoming is not Incoming.BODY or cycle.response_started or bool(self.pipeline)

    def _refuse_unreadable(self, problem: Problem) -> None:
        """Refuse what is arriving, and end the connection after the answers that are due."""
        incoming = self._incoming()
        if incoming is Incoming.DISCARDED_BODY:
            self._lingering.linger()
        elif not self._answer_due(incoming):
            self._refuse(problem)
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            if self.pipeline and incoming is Incoming.BODY:
                # Its turn comes behind the others, and its body never.
                self.pipeline[0] = self.cycle, problem.response()  # type: ignore[assignment]

    def finish(self) -> None:
        """End the connection after the requests that have come."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End the connection after the requests that have come or are about to; uvicorn calls this at its stop."""
        self._monitor.stopping = True
        self.finish()
        self._lingering.hurry()
        self.loop.call_later(STRAY_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        if not self._answerable() and not self._answer_due(self._incoming()):
            self._lingering.linger(HURRIED_SECONDS if self._incoming() is Incoming.DISCARDED_BODY else 0)

    def refuse_unfinished(self) -> None:
        """Refuse a request whose head is still arriving."""
        if self._incoming() is Incoming.HEAD and self._answerable():
            self._refuse(stopping(), HURRIED_SECONDS)

    def _refuse(self, problem: Problem, seconds: float = LINGERING_SECONDS) -> None:
        """Answer with a problem, and discard for so many seconds what still arrives."""
        if self.transport.is_closing():
            return
        self.transport.write(refusal(problem))
        self._lingering.linger(seconds)
