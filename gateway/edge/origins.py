"""Pages of other origins that may call the gateway from a browser (CORS)."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.edge.headers import HeaderPairs

ANY = "*"
_METHODS = b"GET, HEAD, POST, DELETE"
_REQUEST_HEADERS = (
    b"Authorization, Content-Encoding, Content-Type, Idempotency-Key, Inference-Header-Content-Length, Prefer, "
    b"traceparent, tracestate, X-Request-ID, X-Split-Key"
)
_ANSWER_HEADERS = (
    b"Allow, Idempotent-Replayed, Inference-Header-Content-Length, Location, Retry-After, Server-Timing, "
    b"WWW-Authenticate, X-Request-ID"
)
_PREFLIGHT_SECONDS = b"600"
"""Time for which a browser need not ask again."""


class Origins:
    """The origins whose pages may call the gateway."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        """Admit these origins, or every one if `*` is among them."""
        self._any = ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def answer_headers(self, request_headers: HeaderPairs) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers by which a browser shows the answer to the page that asked; none if it must not.

        Pages send API keys by themselves: credentials that a browser would add, such as cookies, are never admitted.
        """
        origin = dict(request_headers).get(b"origin")
        if origin is None or not (self._any or origin in self._origins):
            return ()
        admitted = b"*" if self._any else origin
        return (
            (b"access-control-allow-origin", admitted),
            (b"access-control-expose-headers", _ANSWER_HEADERS),
            (b"vary", b"origin"),
        )


class PreflightMiddleware:
    """ASGI middleware that answers a browser's question before a page's request; it needs no API key."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not (scope["type"] == "http" and scope["method"] == "OPTIONS" and self._admits(scope["headers"])):
            await self._app(scope, receive, send)
            return
        headers = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _admits(self, headers: HeaderPairs) -> bool:
        is_preflight = any(name == b"access-control-request-method" for name, _ in headers)
        return is_preflight and bool(self._origins.answer_headers(headers))
