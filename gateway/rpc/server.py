"""The gRPC server: every call is an exchange like a request over HTTP."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import grpc
import grpc.aio

from gateway.api.endpoint import HotEndpoint
from gateway.api.statuses import problem_of
from gateway.errors import RequestError
from gateway.oip.infer import InferStatistics
from gateway.problems import Problem, stopping
from gateway.rpc.infer import ModelInferEndpoint
from gateway.rpc.methods import SERVICE, Method, methods_of
from gateway.rpc.places import CallPlaces
from gateway.rpc.request import GrpcRequest, headers_of
from gateway.rpc.settings import GrpcSettings
from gateway.rpc.statuses import DETAILS, status_of
from gateway.services import Services
from gateway.web.exchange import REQUEST_ID, Exchange, Exchanges
from gateway.web.graceful_stop import DRAIN_SECONDS, END_SECONDS
from gateway.web.request_context import RequestContext
from headrace.errors import HeadraceError

logger = logging.getLogger(__name__)

# grpcio logs a traceback for each text of a call that is not UTF-8, such as an API key, and then takes it as Latin-1.
logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)

INFER = f"/{SERVICE}/ModelInfer"

STREAMS_MAX = 1_000
"""Calls at a time on one connection; others wait in the client."""

METADATA_BYTES = 16_384

PENDING_MAX = 5_000
"""Calls that gRPC keeps for the event loop to take; it cancels others, and can't say why or when to try again."""

IDLE_MILLISECONDS = 300_000
"""Time for which a connection without a call stays open."""

AGE_MILLISECONDS, GRACE_MILLISECONDS = 600_000, 120_000
"""Time after which a client is asked to make another connection, and time that calls in progress then have.

Nothing else ends a call of which nobody reads the answer.
"""

OPTIONS: tuple[tuple[str, int], ...] = (
    # Two processes on one port would each get a part of the connections, and nobody would notice.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.server.max_pending_requests", PENDING_MAX),
    ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ("grpc.max_connection_idle_ms", IDLE_MILLISECONDS),
    ("grpc.max_connection_age_ms", AGE_MILLISECONDS),
    ("grpc.max_connection_age_grace_ms", GRACE_MILLISECONDS),
    # A connection whose other end is gone ends within a minute and a half.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A client that pings more often is cut off.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

Outcome = bytes | Problem
Respond = Callable[[dict[bytes, bytes], RequestContext, Exchange], Awaitable[Outcome]]


class GrpcServer:
    """The server of one process."""

    def __init__(self, settings: GrpcSettings, services: Services, exchanges: Exchanges) -> None:
        self._settings = settings
        self._services = services
        self._exchanges = exchanges
        statistics = InferStatistics()
        self._endpoint: HotEndpoint = ModelInferEndpoint(services, INFER, statistics)
        self._methods = methods_of(services, statistics)
        self._requests: set[GrpcRequest] = set()
        self._places = CallPlaces(settings.grpc_calls_max, settings.body_receive_seconds, services.metrics.rejected)
        self._server: Any = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            HeadraceError: if that fails, or the certificate can't be used.
        """
        settings = self._settings
        credentials = _credentials(settings)
        server = grpc.aio.server(options=[*OPTIONS, ("grpc.max_receive_message_length", settings.body_max_bytes)])
        server.add_generic_rpc_handlers((_Handlers(self),))
        host = f"[{settings.grpc_host}]" if ":" in settings.grpc_host else settings.grpc_host
        address = f"{host}:{settings.grpc_port}"
        try:
            if credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, credentials)
        except RuntimeError:
            certificate = ", or the certificate and its key can't be used" if credentials else ""
            raise HeadraceError(f"gRPC can't listen on {address}: it is taken{certificate}") from None
        await server.start()
        self._server = server
        self._watch = asyncio.create_task(self._end_with(server))
        logger.info("gRPC on %s%s", address, " with TLS" if credentials else "")

    async def _end_with(self, server: Any) -> None:
        """End this process if the server has ended: its probes would be answered without it."""
        await server.wait_for_termination()
        if not self._services.graceful_stop.begun:
            logger.critical("the gRPC server has ended by itself, and this process ends")
            signal.raise_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """Take no more calls, and let those in progress be answered; after `DRAIN_SECONDS` they end as `stopping`."""
        if self._server is None:
            return
        ended = asyncio.create_task(self._server.stop(DRAIN_SECONDS + END_SECONDS))
        await asyncio.wait([ended], timeout=DRAIN_SECONDS)
        for request in list(self._requests):
            request.fail(asyncio.CancelledError())
        await ended

    def handler_of(self, path: str) -> Any:
        """Return what answers the calls of a method; None if there is no such method.

        Messages are read by the call itself: those of callers without a key, or beyond the limit of calls, are not.
        """
        if path == INFER:
            respond = partial(self._call, path, self._infer)
        elif path in self._methods:
            respond = partial(self._call, path, partial(self._describe, self._methods[path]))
        else:
            return None
        return grpc.stream_stream_rpc_method_handler(respond)

    async def _call(self, path: str, respond: Any, _messages: Any, call: Any) -> None:
        headers, context = headers_of(call), RequestContext()
        scheme = "https" if self._settings.grpc_tls_certificate else "http"
        exchange = self._exchanges.begin(context, "POST", path, headers.items(), scheme)
        status = 0
        place = ExitStack()
        try:
            outcome = await self._outcome(partial(respond, call, place), headers, context, exchange)
            status = 200 if isinstance(outcome, bytes) else outcome.status
            metadata = [(name.decode(), value.decode()) for name, value in exchange.headers if name == REQUEST_ID]
            if isinstance(outcome, bytes):
                call.set_trailing_metadata(tuple(metadata))
                # Until its caller has read nearly all of it: the answer counts against the limit of answers as long.
                await call.write(outcome)
                return
        except asyncio.CancelledError:
            status = 504 if context.problem == "deadline_exceeded" else 0
            raise
        finally:
            place.close()
            exchange.end(path, status)
        code, text, details = status_of(outcome)
        await call.abort(code, text, (*metadata, (DETAILS, details)))
        raise AssertionError("abort raises")

    async def _outcome(
        self, respond: Respond, headers: dict[bytes, bytes], context: RequestContext, exchange: Exchange
    ) -> Outcome:
        try:
            return await respond(headers, context, exchange)
        except Problem as problem:
            found = problem
        except RequestError as error:
            found = problem_of(error)
        except Exception as error:
            found = exchange.failed(error)
        context.problem = found.code
        return found

    async def _message(self, call: Any, place: ExitStack, owner: str | None) -> bytes:
        place.enter_context(self._places.of(owner))
        return await self._places.message_of(call, owner)

    async def _infer(
        self, call: Any, place: ExitStack, headers: dict[bytes, bytes], context: RequestContext, exchange: Exchange
    ) -> Outcome:
        request = GrpcRequest(self._endpoint, headers, context, exchange, call, partial(self._message, call, place))
        self._requests.add(request)
        try:
            return await request.answer()
        finally:
            self._requests.discard(request)

    async def _describe(
        self,
        method: Method,
        call: Any,
        place: ExitStack,
        headers: dict[bytes, bytes],
        context: RequestContext,
        _exchange: Exchange,
    ) -> Outcome:
        if method.scope is not None:
            if self._services.graceful_stop.begun:
                return stopping()
            self._services.guard.admit(context, headers, method.scope)
        message = await self._message(call, place, None if method.scope is None else context.owner)
        return await method.answer(message, context.owner)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The methods of the server, as gRPC finds them."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server

    def service(self, handler_call_details: Any) -> Any:
        """Return what answers a call; None if there is no such method.

        Nothing answers a call whose metadata is too large: gRPC has ended it, but hands it over all the same.
        """
        bytes_left = METADATA_BYTES
        for key, value in handler_call_details.invocation_metadata or ():
            bytes_left -= len(key) + len(value)
            if bytes_left < 0:
                return None
        return self._server.handler_of(handler_call_details.method)


def _credentials(settings: GrpcSettings) -> Any:
    """Return the certificate of the server, None if it has none.

    Raises:
        HeadraceError: if a file can't be read.
    """
    if settings.grpc_tls_certificate is None or settings.grpc_tls_key is None:
        return None
    files = [settings.grpc_tls_key, settings.grpc_tls_certificate]
    try:
        key, certificate = (file.read_bytes() for file in files)
        authorities = settings.grpc_tls_client_ca.read_bytes() if settings.grpc_tls_client_ca is not None else None
    except OSError as error:
        raise HeadraceError(f"a file of GRPC_TLS_… can't be read: {error.strerror}") from None
    return grpc.ssl_server_credentials([(key, certificate)], authorities, authorities is not None)
