"""What every request passes: its id, its metrics, problem details for what nobody caught, and headers of safety."""

import logging
import random
import re
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import Problem
from gateway.metrics import GatewayMetrics

logger = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"
PRIVATE = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Of every answer: it is nobody else's, and what it says it is."""

UNMATCHED = "__unmatched__"
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observed:
    """ASGI middleware around everything that answers."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *PRIVATE, (REQUEST_ID, request_id)]
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except ClientDisconnect:
            logger.debug("request %s: the caller left", request_id.decode())
        except Exception:
            logger.exception("request %s failed", request_id.decode())
            if not status:
                problem = Problem(500, "internal_error", f"see the log for request {request_id.decode()}")
                await problem.response()(scope, receive, send_observed)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._metrics.answered(method, _template(scope), status or 499, time.perf_counter() - started)


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
