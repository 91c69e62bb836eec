"""Requests of the hot routes on a connection: from uvicorn's protocol to the endpoint and back, without ASGI.

By ASGI, a request costs a scope, a cycle of uvicorn's, a task, the calls through all middleware, and two events: more
than its share of a batch. A `HotCycle` takes the place of uvicorn's cycle instead, so everything that the protocol
knows of a connection (keep-alive, requests sent ahead, slow and lost callers) holds for it too.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.edge.headers import HeaderPairs
from gateway.fairness.answers import PIECE_BYTES, in_pieces
from gateway.fairness.bodies import BodyReader, declared_bytes
from gateway.problems import Problem
from gateway.web.exchange import Exchanges
from gateway.web.hot_request import HotHandler, HotRequest, match_path
from gateway.web.request_context import CONTEXT, RequestContext

HOT_ROUTES = "hot_routes"
"""Key of the lifespan's state that holds the process's `HotRoutes`."""

HOT_BODY_BYTES = 16_384
"""Body up to which a request is taken: so much is held of it before anything looks at it."""


class HotRoutes:
    """The hot routes of a gateway process."""

    def __init__(self, handlers: Mapping[str, HotHandler], exchanges: Exchanges) -> None:
        """`handlers` are the handlers of POST requests by path template."""
        self._handlers = handlers
        self._exchanges = exchanges

    def take(self, protocol: HttpToolsProtocol) -> "HotCycle | None":
        """Return the cycle of a request whose head has been received, or None if it must go through ASGI."""
        if protocol.parser.get_method() != b"POST" or protocol.expect_100_continue:
            return None
        if protocol.cycle is not None and not protocol.cycle.response_complete:
            # A request that was sent ahead waits for its turn among the protocol's own.
            return None
        path, _, query = protocol.url.partition(b"?")
        # Escapes, fragments and characters that a URL can't have are left to uvicorn's parser.
        if b"%" in path or b"#" in protocol.url or not path.isascii():
            return None
        template, parameters = match_path(self._exchanges.prefixes.without(path.decode()))
        handler = self._handlers.get(template)
        if handler is None:
            return None
        headers = dict(protocol.headers)
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or declared_bytes(length) > HOT_BODY_BYTES or b"transfer-encoding" in headers:
            return None
        return HotCycle(protocol, self._exchanges, handler, path.decode(), parameters, query, headers)


class HotCycle(HotRequest):
    """A request of a hot route on a connection; to uvicorn's protocol, a cycle of request and response."""

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        exchanges: Exchanges,
        handler: HotHandler,
        path: str,
        parameters: Mapping[str, str],
        query: bytes,
        headers: Mapping[bytes, bytes],
    ) -> None:
        super().__init__(handler, parameters, query, headers, RequestContext())
        self.scope: dict[Any, Any] = protocol.scope  # type: ignore[assignment]
        self.scope |= {"method": "POST", CONTEXT: self.context}
        self.context.on_left = self._leave
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.default_headers = protocol.server_state.default_headers
        self.on_response = protocol.on_response_complete
        self.keep_alive = protocol.parser.get_http_version() != "1.0" and protocol.parser.should_keep_alive()
        self.body = b""
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False
        self._packer = exchanges.packer
        self._exchange = self._variables.run(
            exchanges.begin,
            self.context,
            "POST",
            path,
            protocol.headers,
            protocol.scheme or "http",
            protocol.client[0] if protocol.client else "",
        )
        self._body_complete: asyncio.Future[None] | None = None
        """Set if something waits for the rest of the body."""
        self._loop = protocol.loop
        self._tasks = cast("set[object]", protocol.tasks)
        """The server's tasks, which a stop waits for and cancels: this request is one of them until it is answered."""
        self._tasks.add(self)
        # In the next turn of the event loop: the parser has others to read first, and nearly always the body.
        self._loop.call_soon(self._answer)

    @property
    def message_event(self) -> "HotCycle":
        """The event that uvicorn's protocol sets when more of the request has arrived: this request takes note."""
        return self

    def set(self) -> None:
        """Take note that more of the request has arrived."""
        if self._body_complete is not None and not self.more_body and not self._body_complete.done():
            self._body_complete.set_result(None)

    def _answer(self) -> None:
        if not self.ended:
            self.run(self.handler.answer(self))

    async def read(self, reader: BodyReader) -> bytes:
        """Return the body, which has the length that its headers declare."""
        reader.check(self.headers, self.handler.media_types)
        if self.more_body:
            self._body_complete = self._loop.create_future()
            await self._body_complete
        return self.body

    def _leave(self) -> None:
        if not self.ended:
            self._end()
            if self._task is not None:
                self._task.cancel()
            self._close(0)

    def crash(self, error: Exception) -> None:
        """Respond with 500, and log the exception."""
        problem = self._exchange.failed(error)
        self.context.problem = problem.code
        response = problem.response()
        self.respond(problem.status, response.raw_headers, bytes(response.body))

    def _send(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        if len(body) > PIECE_BYTES:
            try:
                self.context.hold_answer(len(body))
            except Problem as problem:
                self.context.problem = problem.code
                response = problem.response()
                status, headers, body = problem.status, response.raw_headers, bytes(response.body)
        headers = (*headers, *self._exchange.headers)
        if len(body) <= PIECE_BYTES and not self.flow.write_paused:
            # In one write: that of head and body apart was a quarter of the gateway's time.
            self.transport.write(self._head(status, headers) + body)
            self._close(status)
            self._complete()
        else:
            self._task = self._loop.create_task(self._send_in_pieces(status, headers, body))

    async def _send_in_pieces(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Send a large response, or one whose caller has not taken those before it."""
        self.response_started = True
        headers, body = await self._packer.pack(self.headers, headers, body)
        head = self._head(status, headers)
        for piece, follows in in_pieces(body):
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            if self.disconnected:
                break
            self.transport.write(head + piece)
            head = b""
            if follows:
                # Others have their turn, and a connection that was lost is noticed before the next write.
                await asyncio.sleep(0)
        self._close(status)
        if not self.disconnected:
            self._complete()

    def _head(self, status: int, headers: HeaderPairs) -> bytes:
        lines = [b"%b: %b\r\n" % header for header in (*self.default_headers, *headers)]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        return b"%b%b\r\n" % (STATUS_LINE[status], b"".join(lines))

    def _complete(self) -> None:
        """Take on the state of one of uvicorn's cycles after the last piece of a body."""
        self.response_started = self.response_complete = True
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _close(self, status: int) -> None:
        # The callback refers to this request: a cycle for the garbage collector.
        self.context.on_left = None
        self._exchange.end(self.handler.template, status)
        self._tasks.discard(self)

    def cancel(self, msg: str = "") -> None:
        """End the request in the next turn of the event loop, as a task: the server stops."""
        self._loop.call_soon(self._stop)

    def _stop(self) -> None:
        self._tasks.discard(self)
        if self.ended:
            return  # The response is being sent, for as long as the connection may last.
        if self._task is not None:
            self._task.cancel()
        else:
            self.fail(asyncio.CancelledError())
