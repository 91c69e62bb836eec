"""ASGI middleware: around every request its exchange, and HEAD answered like GET."""

import asyncio
import logging
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.edge.compression import AnswerPacker
from gateway.edge.headers import HeaderPairs
from gateway.fairness.answers import in_pieces
from gateway.problems import PARAMETERS_MAX, Problem, stopping, too_many_parameters
from gateway.web.exchange import Exchanges
from gateway.web.request_context import CONTEXT, RequestContext, context_of

logger = logging.getLogger(__name__)

UNMATCHED = "__unmatched__"


class RequestMiddleware:
    """ASGI middleware around everything that answers."""

    def __init__(self, app: ASGIApp, exchanges: Exchanges) -> None:
        self._app = app
        self._exchanges = exchanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context: RequestContext = scope.get(CONTEXT) or scope.setdefault(CONTEXT, RequestContext())
        exchange = self._exchanges.begin(
            context,
            scope["method"],
            scope["path"],
            scope["headers"],
            scope.get("scheme", "http"),
            scope["client"][0] if scope.get("client") else "",
        )
        response = _Response(dict(scope["headers"]), exchange.headers, send, context, self._exchanges.packer)
        # FastAPI parses cookies for every route, some Python versions in quadratic time, and no route uses them.
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"cookie"]
        try:
            if scope.get("query_string", b"").count(b"&") >= PARAMETERS_MAX:
                # FastAPI reads all of them, also for a caller whom the route refuses.
                await response.end_with(too_many_parameters(), scope, receive)
            else:
                await self._app(scope, receive, response.send)
        except ClientDisconnect:
            logger.debug("the caller left")
        except asyncio.CancelledError:
            await response.end_with(stopping(), scope, receive)
        except Exception as error:
            await response.end_with(exchange.failed(error), scope, receive)
        finally:
            exchange.end(_template(scope), response.status)


class HeadMiddleware:
    """ASGI middleware that has HEAD answered like GET (RFC 9110, section 9.3.2); the server leaves out the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        routed = {**scope, "method": "GET"}
        try:
            await self._app(routed, receive, send)
        finally:
            # The route is the metrics' label. The server leaves out the body as long as its own scope says HEAD.
            scope.update(routed, method="HEAD")


class _Response:
    """The response to one request: records its status and adds the headers that every response has."""

    def __init__(
        self,
        request_headers: Mapping[bytes, bytes],
        headers: HeaderPairs,
        send: Send,
        context: RequestContext,
        packer: AnswerPacker,
    ) -> None:
        self._request_headers = request_headers
        self._headers = headers
        self._send = send
        self._context = context
        self._packer = packer
        self._begun: tuple[int, HeaderPairs] = 0, ()
        """Status and headers that wait for the body, which may come to be packed, or refused."""
        self._body_instead: bytes | None = None
        """Body of the refusal that takes the place of an answer."""
        self.status = 0
        """HTTP status; 0 until the response has been sent in part."""

    async def send(self, message: Message) -> None:
        """Pass on one ASGI message, a large body in pieces; in place of one large answer too many, send 503."""
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._body_instead is not None:
            if more:
                return
            body = self._body_instead
        if not self.status:
            body = await self._send_head(body, more)
        for piece, follows in in_pieces(body):
            await self._send({"type": "http.response.body", "body": piece, "more_body": follows or more})
            if follows:
                # Others have their turn, and a connection that was lost is noticed before the next write.
                await asyncio.sleep(0)

    def _begin(self, status: int, headers: HeaderPairs) -> None:
        try:
            self._context.hold_answer(int(dict(headers).get(b"content-length", 0)))
        except Problem as problem:
            self._context.problem = problem.code
            refusal = problem.response()
            status, headers, self._body_instead = problem.status, refusal.raw_headers, bytes(refusal.body)
        self._begun = status, headers

    async def _send_head(self, body: bytes, more: bool) -> bytes:
        """Send status and headers, and return the body as it follows them."""
        status, headers = self._begun
        # What an answer says itself goes first: files of pages may be kept.
        own = {name for name, _ in headers}
        headers = [*headers, *(header for header in self._headers if header[0] not in own)]
        if not more:
            headers, body = await self._packer.pack(self._request_headers, headers, body)
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        return body

    async def end_with(self, problem: Problem, scope: Scope, receive: Receive) -> None:
        """Answer with a problem, unless a response has begun."""
        context_of(scope).problem = problem.code
        if not self.status:
            await problem.response()(scope, receive, self.send)


def _template(scope: Scope) -> str:
    """Return the route's path with its parameters unfilled: a closed set of labels."""
    if "endpoint" not in scope:
        return UNMATCHED
    template: str = getattr(scope["endpoint"], "template", "") or getattr(scope.get("route"), "path_format", "")
    # A route without parameters has matched this very path.
    return template or (UNMATCHED if scope.get("path_params") else scope["path"])
