"""ASGI middleware for every request: id, metrics, log, trace, safe headers, problem details for uncaught errors."""

import asyncio
import logging
import random
import re
import sys
import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.metrics import GatewayMetrics
from gateway.problems import Problem, stopping
from gateway.web.answers import PIECE_BYTES, AnswerBudget, in_pieces
from gateway.web.error_log import ErrorLog
from gateway.web.request_context import CONTEXT, HeaderPairs, RequestContext, WriteResponse, context_of
from shared.observability.log_context import bind

if TYPE_CHECKING:
    from gateway.tracing import RequestTracing

logger = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Headers of every response: no cache may keep it, and no browser may guess its type."""

UNMATCHED = "__unmatched__"

PROBES = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Paths that machines ask every few seconds: they are not traced, and their errors are not logged."""
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""HTTP methods with a metric label of their own; all others share the label `OTHER`."""


class RequestMiddleware:
    """ASGI middleware around everything that answers."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: GatewayMetrics,
        error_log: ErrorLog | None = None,
        tracing: "RequestTracing | None" = None,
        answers: AnswerBudget | None = None,
    ) -> None:
        self._app = app
        self._answers = answers or AnswerBudget(sys.maxsize, metrics.rejected)
        self._metrics = metrics
        self._error_log = error_log or ErrorLog()
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        context: RequestContext = scope.get(CONTEXT) or scope.setdefault(CONTEXT, RequestContext())
        context.answers = self._answers
        request_id = _request_id(scope)
        bind(request_id=request_id)
        if self._tracing is not None and scope["path"] not in PROBES:
            context.trace, ids = self._tracing.begin(scope, request_id.decode())
            bind(**ids)
        response = _Response(request_id, send, context)
        logged = False
        try:
            await self._app(scope, receive, response.send)
        except ClientDisconnect:
            logger.debug("request %s: the caller left", request_id.decode())
        except asyncio.CancelledError:
            await response.end_with(stopping(), scope, receive)
        except Exception:
            logged = True
            self._error_log.write_exception(request_id.decode())
            problem = Problem(500, "internal_error", f"see the log for request {request_id.decode()}")
            await response.end_with(problem, scope, receive)
        finally:
            # The function refers to the request, which refers to the scope: a cycle for the garbage collector.
            context.write_response = None
            if context.answer_bytes:
                self._answers.release(context.answer_bytes, context.owner)
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            route = _template(scope)
            status = response.status or 499
            self._metrics.answered(method, route, status, time.perf_counter() - started)
            if context.trace is not None:
                context.trace.end(method, route, status, context.problem)
            if status >= 500 and not logged and route not in PROBES:
                self._error_log.write(method, route, status, context.problem)


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

    def __init__(self, request_id: bytes, send: Send, context: RequestContext) -> None:
        self._headers = (*SAFE_HEADERS, (REQUEST_ID, request_id))
        self._send = send
        self._context = context
        self._body_instead: bytes | None = None
        """Body of the refusal that takes the place of an answer."""
        self._write: WriteResponse | None = context.write_response
        self.status = 0
        """HTTP status; 0 until the response has begun."""
        if self._write is not None:
            context.write_response = self.write

    async def send(self, message: Message) -> None:
        """Pass on one ASGI message, a large body in pieces; in place of one large answer too many, send 503."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._body_instead is None:
            for piece, follows in in_pieces(message.get("body", b"")):
                more = follows or message.get("more_body", False)
                await self._send({"type": "http.response.body", "body": piece, "more_body": more})
                if follows:
                    # Others have their turn, and a connection that was lost is noticed before the next write.
                    await asyncio.sleep(0)
        elif not message.get("more_body", False):
            await self._send({"type": "http.response.body", "body": self._body_instead})

    async def _begin(self, message: Message) -> None:
        status, headers = message["status"], list(message["headers"])
        try:
            self._context.hold_answer(int(dict(headers).get(b"content-length", 0)))
        except Problem as problem:
            self._context.problem = problem.code
            refusal = problem.response()
            status, headers, self._body_instead = problem.status, refusal.raw_headers, bytes(refusal.body)
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]})

    async def end_with(self, problem: Problem, scope: Scope, receive: Receive) -> None:
        """Answer with a problem, unless a response has begun."""
        context_of(scope).problem = problem.code
        if not self.status:
            await problem.response()(scope, receive, self.send)

    def write(self, status: int, headers: HeaderPairs, body: bytes) -> bool:
        """Pass on the whole response; False if it must go through `send`."""
        assert self._write is not None
        if len(body) > PIECE_BYTES or not self._write(status, (*headers, *self._headers), body):
            return False
        self.status = status
        return True


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ACCEPTABLE_ID.fullmatch(value):
            return bytes(value)
    # Ids must differ, not be secret: the system's source of randomness would cost a system call.
    return b"%032x" % random.getrandbits(128)


def _template(scope: Scope) -> str:
    """Return the route's path with its parameters unfilled: a closed set of labels."""
    if "endpoint" not in scope:
        return UNMATCHED
    template: str = getattr(scope["endpoint"], "template", "") or getattr(scope.get("route"), "path", "")
    # A route without parameters has matched this very path.
    return template or (UNMATCHED if scope.get("path_params") else scope["path"])
