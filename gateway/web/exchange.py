"""An exchange: the part of answering that all requests share, whatever answers them."""

import random
import re
import sys
import time
from typing import TYPE_CHECKING

from gateway.edge.compression import AnswerPacker
from gateway.edge.headers import HeaderPairs
from gateway.edge.origins import Origins
from gateway.edge.prefixes import Prefixes
from gateway.fairness.answers import AnswerBudget
from gateway.metrics import GatewayMetrics
from gateway.problems import Problem
from gateway.web.error_log import ErrorLog
from gateway.web.request_context import RequestContext
from shared.observability.log_context import bind

if TYPE_CHECKING:
    from gateway.tracing import RequestTracing

REQUEST_ID = b"x-request-id"
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Headers of every response: no cache may keep it, and no browser may guess its type."""

PROBES = frozenset(
    {
        *("/health", "/livez", "/readyz", "/ping", "/metrics", "/v2/health/live", "/v2/health/ready"),
        *("/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService/ServerLive"),
        "/inference.GRPCInferenceService/ServerReady",
    }
)
"""Paths that machines ask every few seconds: they are not traced, and their errors are not logged."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""HTTP methods with a metric label of their own; all others share the label `OTHER`."""

CALLER_LEFT = 499
"""Status under which a request is counted whose caller left before the answer (nginx's)."""

_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Exchanges:
    """The exchanges of one gateway process."""

    def __init__(
        self,
        metrics: GatewayMetrics,
        error_log: ErrorLog | None = None,
        tracing: "RequestTracing | None" = None,
        answers: AnswerBudget | None = None,
        origins: Origins | None = None,
        prefixes: Prefixes | None = None,
    ) -> None:
        self.metrics = metrics
        self.error_log = error_log or ErrorLog()
        self.answers = answers or AnswerBudget(sys.maxsize, metrics.rejected)
        self.packer = AnswerPacker()
        self.prefixes = prefixes or Prefixes()
        self._origins = origins or Origins()
        self._tracing = tracing

    def begin(
        self, context: RequestContext, method: str, path: str, headers: HeaderPairs, scheme: str, address: str = ""
    ) -> "Exchange":
        """Begin the exchange of a request, and note its id for all log lines of this asyncio context."""
        request_id = _request_id(headers)
        bind(request_id=request_id)
        context.answers = self.answers
        context.prefix = self.prefixes.of(headers, address)
        if self._tracing is not None and path not in PROBES:
            context.trace, ids = self._tracing.begin(method, path, headers, scheme, request_id.decode())
            bind(**ids)
        answer_headers: tuple[tuple[bytes, bytes], ...] = (*SAFE_HEADERS, (REQUEST_ID, request_id))
        if self._origins:
            answer_headers += self._origins.answer_headers(headers)
        return Exchange(self, context, method, request_id, answer_headers)


class Exchange:
    """A request and its response: an id, safe headers, metrics, a log line, a trace."""

    __slots__ = ("_context", "_exchanges", "_logged", "_method", "_request_id", "_started", "headers")

    def __init__(
        self,
        exchanges: Exchanges,
        context: RequestContext,
        method: str,
        request_id: bytes,
        headers: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self._started = time.perf_counter()
        self._exchanges = exchanges
        self._context = context
        self._method = method
        self._request_id = request_id
        self._logged = False
        self.headers = headers
        """Headers that the response has besides those of whatever answers."""

    def failed(self, error: Exception) -> Problem:
        """Log an exception that nobody foresaw, and return the problem that answers the request."""
        self._logged = True
        request_id = self._request_id.decode()
        self._exchanges.error_log.write_exception(request_id, error)
        return Problem(500, "internal_error", f"see the log for request {request_id}")

    def end(self, route: str, status: int) -> None:
        """Count, trace and log the request: its answer was sent, or its caller left.

        Args:
            route: path of the route with its parameters unfilled.
            status: HTTP status; 0 if there was no response.
        """
        exchanges, context = self._exchanges, self._context
        if context.answer_bytes:
            exchanges.answers.release(context.answer_bytes, context.owner)
            context.answer_bytes = 0
        method = self._method if self._method in METHODS else "OTHER"
        status = status or CALLER_LEFT
        exchanges.metrics.answered(method, route, status, time.perf_counter() - self._started)
        if context.trace is not None:
            context.trace.end(method, route, status, context.problem)
        if status >= 500 and not self._logged and route not in PROBES:
            exchanges.error_log.write(method, route, status, context.problem)


def _request_id(headers: HeaderPairs) -> bytes:
    for name, value in headers:
        if name == REQUEST_ID and _ACCEPTABLE_ID.fullmatch(value):
            return bytes(value)
    # Ids must differ, not be secret: the system's source of randomness would cost a system call.
    return b"%032x" % random.getrandbits(128)
