"""What every request passes: its id, its metrics, problem details for what nobody caught, and limits on its body."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import Problem
from gateway.metrics import GatewayMetrics

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
UNMATCHED = "__unmatched__"
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observed:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        asked_id = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = asked_id if _ACCEPTABLE_ID.fullmatch(asked_id) else uuid.uuid4().hex
        status = 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except ClientDisconnect:
            logger.debug("request %s: the caller left", request_id)
        except Exception:
            logger.exception("request %s failed", request_id)
            if not status:
                problem = Problem(500, "internal_error", f"see the log for request {request_id}")
                await problem.response()(scope, receive, send_observed)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = _template(scope)
        self._metrics.http_requests.labels(method, route, str(status or 499)).inc()
        self._metrics.http_seconds.labels(method, route).observe(seconds)


def _template(scope: Scope) -> str:
    """The route's path with its parameters unfilled: a closed set of labels."""
    if "endpoint" not in scope:
        return UNMATCHED
    template: str = getattr(scope["endpoint"], "template", "") or getattr(scope.get("route"), "path", "")
    # A route without parameters has matched this very path.
    return template or (UNMATCHED if scope.get("path_params") else scope["path"])


async def read_json(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The body of a request.

    Raises:
        Problem: 415 if it does not say that it is JSON, 413 if it is too large.
        ClientDisconnect: if the caller left.
    """
    headers = dict(scope["headers"])
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise Problem(415, "unsupported_media_type", "send application/json", {"Accept": "application/json"})
    too_large = Problem(413, "too_large", f"the body is larger than {max_bytes} bytes")
    length = headers.get(b"content-length", b"")
    # Refused before it is read, if it says so itself; more digits than 20 are no length.
    if length.isdigit() and int(length[:20]) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
        if size > max_bytes:
            raise too_large
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
