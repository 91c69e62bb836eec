"""What every request passes: id, metrics, log and trace, problem details for what nobody caught, headers of safety."""

import logging
import random
import re
import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.metrics import GatewayMetrics
from gateway.problems import Problem
from gateway.web.error_log import FailureLog
from gateway.web.single_write import WHOLE, RawHeaders, TakesWhole
from shared.observability.log_context import bind

if TYPE_CHECKING:
    from gateway.tracing import RequestTracing

logger = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"
PRIVATE = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Of every answer: it is nobody else's, and what it says it is."""

UNMATCHED = "__unmatched__"

PROBLEM = "headrace.problem"
"""Key of a request's scope: the code of the problem that it was answered with."""

TRACE = "headrace.trace"
"""Key of a request's scope: its RequestTrace, if it is traced and sampled."""

PROBES = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines: neither traced nor logged when they say no."""
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Counted by their names; any other is one label."""


class Observed:
    """ASGI middleware around everything that answers."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: GatewayMetrics,
        failures: FailureLog | None = None,
        tracing: "RequestTracing | None" = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._failures = failures or FailureLog()
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        bind(request_id=request_id)
        trace = None
        if self._tracing is not None and scope["path"] not in PROBES:
            trace, ids = self._tracing.begin(scope, request_id.decode())
            scope[TRACE] = trace
            bind(**ids)
        answer = _Answer(request_id, send, scope.get(WHOLE))
        if answer.whole is not None:
            scope[WHOLE] = answer.take_whole
        told = False
        try:
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            logger.debug("request %s: the caller left", request_id.decode())
        except Exception:
            told = True
            logger.exception("request %s failed", request_id.decode())
            scope[PROBLEM] = "internal_error"
            if not answer.status:
                problem = Problem(500, "internal_error", f"see the log for request {request_id.decode()}")
                await problem.response()(scope, receive, answer.send)
        finally:
            # It refers to the request, which refers to the scope.
            scope.pop(WHOLE, None)
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            route = _template(scope)
            status = answer.status or 499
            self._metrics.answered(method, route, status, time.perf_counter() - started)
            if trace is not None:
                trace.end(method, route, status, scope.get(PROBLEM, ""))
            if status >= 500 and not told and route not in PROBES:
                self._failures.tell(method, route, status, scope.get(PROBLEM, ""))


class _Answer:
    """What goes out for one request: sees its status, and adds what every answer has."""

    def __init__(self, request_id: bytes, send: Send, whole: TakesWhole | None) -> None:
        self._headers = (*PRIVATE, (REQUEST_ID, request_id))
        self._send = send
        self.whole = whole
        self.status = 0
        """0 until it has begun."""

    async def send(self, message: Message) -> None:
        """Pass on a piece."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._headers]
        await self._send(message)

    def take_whole(self, status: int, headers: RawHeaders, body: bytes) -> bool:
        """Pass on all of it at once, if that can be done."""
        assert self.whole is not None
        if not self.whole(status, (*headers, *self._headers), body):
            return False
        self.status = status
        return True


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ACCEPTABLE_ID.fullmatch(value):
            return bytes(value)
    # To be told apart, not to be secret: no call of the system's source of randomness.
    return b"%032x" % random.getrandbits(128)


def _template(scope: Scope) -> str:
    """The route's path with its parameters unfilled: a closed set of labels."""
    if "endpoint" not in scope:
        return UNMATCHED
    template: str = getattr(scope["endpoint"], "template", "") or getattr(scope.get("route"), "path", "")
    # A route without parameters has matched this very path.
    return template or (UNMATCHED if scope.get("path_params") else scope["path"])
