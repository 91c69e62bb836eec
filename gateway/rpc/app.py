"""The app of the gRPC process: probes and metrics over HTTP, and beside them the gRPC server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from gateway.api.health import health_routes
from gateway.app import EXCEPTION_HANDLERS
from gateway.gc_tuning import freeze_startup_objects
from gateway.rpc.server import GrpcServer
from gateway.rpc.settings import GrpcSettings
from gateway.services import Services
from gateway.web.error_log import ErrorLog
from gateway.web.exchange import Exchanges
from gateway.web.http_protocol import STATE
from gateway.web.middleware import HeadMiddleware, RequestMiddleware
from headrace.errors import HeadraceError
from headrace.models.store import ModelStore


def create_app(settings: GrpcSettings) -> FastAPI:
    """Make the app for the models of the store; it connects to Redis, and listens for gRPC, when it is started.

    Raises:
        ModelError: if the model store does not answer, or the default model's version must be signed and is not.
        KeyFileError: if the file of API keys can't be used.
    """
    services = Services(settings, ModelStore(settings.model_store))
    services.catalog.load()
    exchanges = Exchanges(services.metrics, ErrorLog(), services.tracing, services.answers)
    server = GrpcServer(settings, services, exchanges)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await services.start()
        try:
            await server.start()
        except HeadraceError as error:
            await services.stop()
            raise SystemExit(f"headrace: {error}") from None
        freeze_startup_objects()
        yield {STATE: services.connections}
        await server.stop()
        await services.stop()

    app = FastAPI(
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[Middleware(RequestMiddleware, exchanges), Middleware(HeadMiddleware)],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.include_router(health_routes(services))
    return app
