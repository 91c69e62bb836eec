"""HTTP/1.1 as uvicorn speaks it, with limits on what a caller may send and how long it may take."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.problems import CONTENT_TYPE, Problem, overloaded
from gateway.web.disconnect import left
from gateway.web.single_write import WHOLE, RawHeaders, send_whole
from gateway.web.slow_clients import Connections, Phase

STATE = "connections"
"""Name in the lifespan's state under which a connection finds those of its process."""

HEAD_MAX_BYTES = 65_536
"""Request line and headers at most, beyond what the first read brings; the same for what follows a chunked body."""

DISCARDED_MAX_BYTES = 16_000_000
"""What is still read of a chunked body whose request was answered already. More may be headers behind it."""

REFUSED_SECONDS = 2.0
"""How long a refused caller may take to read why."""

_INVALID = Problem(400, "invalid_http", "this is not HTTP/1.1")
_HEAD_TOO_LARGE = Problem(431, "head_too_large", f"request line and headers are larger than {HEAD_MAX_BYTES} bytes")
_TOO_SLOW = Problem(408, "too_slow", "the request took too long to arrive")


class Protocol(HttpToolsProtocol):
    """One connection."""

    _piece_bytes = 0
    """What came of a head, or between two pieces of a body, with the second read of a request and later ones."""

    _piece_of: object = None
    """The request that it belongs to."""

    _running: RequestResponseCycle | None = None
    """The request that is being answered; `cycle` is the last that has come."""

    def connection_made(self, transport: Any) -> None:
        """A caller has connected."""
        super().connection_made(transport)
        self._watch: Connections = self.app_state[STATE]
        if not self._watch.add(self):
            self._refuse(overloaded("connections_full", "too many connections are open", 2))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._watch.remove(self)
        if self._running is not None:
            # uvicorn tells the last one only; one before it would write where nothing can be written any more.
            self._running.disconnected = True
            left(self._running.scope)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and not cycle.more_body:
            # All there, as nearly always.
            return
        if self._piece_of is not self.scope:
            # Some of it may be the end of the request before.
            self._piece_of, self._piece_bytes = self.scope, 0
            return
        self._piece_bytes += len(data)
        if self._in_head():
            if self._piece_bytes > HEAD_MAX_BYTES:
                self._refuse(_HEAD_TOO_LARGE)
        elif cycle.response_complete:
            if self._piece_bytes > DISCARDED_MAX_BYTES and (b"transfer-encoding", b"chunked") in cycle.scope["headers"]:
                self.transport.abort()
        elif cycle.body:
            self._piece_bytes = 0
        elif self._piece_bytes > HEAD_MAX_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """A head is there."""
        # RFC 9112, section 3.2. A proxy in front may have looked at another of two.
        if self.parser.get_http_version() == "1.1" and [name for name, _ in self.headers].count(b"host") != 1:
            raise ValueError("not one host")
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        # A key of our own.
        cycle.scope[WHOLE] = self._send_whole  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)

    def _send_whole(self, status: int, headers: RawHeaders, body: bytes) -> bool:
        # Of the connection and not of the request: that would refer to itself, and wait for the garbage collector.
        assert self._running is not None
        return send_whole(self._running, status, headers, body)

    def send_400_response(self, msg: str) -> None:
        """The parser gave up."""
        self._refuse(_INVALID)

    def waits_for(self) -> tuple[Phase, Any] | None:
        """What the caller is to do, and of which request."""
        cycle = self.cycle
        if self.transport.get_write_buffer_size():
            return Phase.ANSWER, cycle
        if self._in_head():
            return Phase.HEAD, self.scope
        # Requests that were sent ahead are not read before it is their turn.
        if cycle.more_body and not self.pipeline:
            return Phase.BODY, cycle
        # Line breaks before a request end uvicorn's own patience, and begin nothing.
        if cycle.response_complete and self.timeout_keep_alive_task is None:
            return Phase.HEAD, cycle
        return None

    def cut_off(self, phase: Phase) -> None:
        """End it; with an answer, if the caller has asked for something and nothing else is on its way."""
        cycle = self.cycle
        if self._in_head():
            answerable = self.scope is not None and (cycle is None or cycle.response_complete)
        else:
            answerable = not cycle.response_started and not self.pipeline
        if answerable and phase is not Phase.ANSWER:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.abort()

    def _in_head(self) -> bool:
        """Whether a request has begun, or is the first to come, and its headers are not complete."""
        return self.cycle is None or self.cycle.scope is not self.scope

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        body = problem.body()
        headers = {
            "content-type": CONTENT_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
            **problem.headers,
        }
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + body)
        self.transport.close()
        # Who does not even read this is not waited for.
        self.loop.call_later(REFUSED_SECONDS, self.transport.abort)
