"""An HTTP client of an app, by one of the two ways in which the gateway answers: ASGI alone, or its own connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import httpx
from fastapi import FastAPI
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.web.http_protocol import HttpProtocol
from tests.support.coroutines import until
from tests.unit.gateway.web.transports import RecordingTransport

WAYS = ("by ASGI", "over connections")

WAY = WAYS[0]
"""The way in which clients reach their app; the fixture `way` sets it."""


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Start an app, and return a client that reaches it by `WAY`."""
    async with app.router.lifespan_context(app) as state:
        transport = httpx.ASGITransport(app) if WAYS[0] == WAY else ConnectionTransport(app, state or {})
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client


class ConnectionTransport(httpx.AsyncBaseTransport):
    """A transport that hands each request to a connection of the gateway's, without a socket."""

    def __init__(self, app: Any, state: Any) -> None:
        self._config = Config(app, http=HttpProtocol, log_config=None, ws="none", lifespan="off")
        self._server = ServerState()
        self._state = state

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on a new connection; when the caller is cancelled, the server stops the request."""
        body = await request.aread()
        lines = [b"%b: %b" % header for header in request.headers.raw]
        head = [request.method.encode() + b" " + request.url.raw_path + b" HTTP/1.1", *lines, b"", b""]
        transport = RecordingTransport()
        protocol = HttpProtocol(self._config, self._server, self._state)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        before = set(self._server.tasks)
        protocol.data_received(b"\r\n".join(head) + body)
        await _answered(protocol, self._server.tasks - before)
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=request.method, target="/", headers=[("host", "gateway")]))
        client.receive_data(b"".join(transport.writes))
        head_event = client.next_event()
        assert isinstance(head_event, h11.Response), head_event
        content = b""
        while isinstance(event := client.next_event(), h11.Data):
            content += event.data
        assert isinstance(event, h11.EndOfMessage), event
        protocol.connection_lost(None)
        return httpx.Response(head_event.status_code, headers=list(head_event.headers), content=content)


async def _answered(protocol: HttpProtocol, requests: set[Any]) -> None:
    def is_answered() -> bool:
        return protocol.cycle is not None and protocol.cycle.response_complete

    try:
        await until("an answer", is_answered)
    except asyncio.CancelledError:
        for each in requests:
            each.cancel()
        await until("an answer", is_answered)
