"""The gateway's app: wiring only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import Problem
from gateway.failures import FailureLog
from gateway.memory import settle
from gateway.openapi import install_openapi
from gateway.protocol import STATE
from gateway.requests import METHODS, PROBLEM, Observed
from gateway.routes.catalog import catalog_routes
from gateway.routes.docs import docs_routes
from gateway.routes.health import health_routes
from gateway.routes.hot import hot_path
from gateway.routes.jobs import SubmitEndpoint, job_routes
from gateway.routes.predict import PredictEndpoint
from gateway.service import Service
from gateway.settings import GatewaySettings
from shared.model_store import ModelStore
from shared.version import version

DESCRIPTION = "Serves scikit-learn models behind a queue."


class Gateway(FastAPI):
    """The app, with a short way to the hot routes: middlewares and routes tried in turn cost more than an answer.

    What the short way does not take (another method, a path with a slash too many) goes the usual one, on which the
    hot routes have their place too.
    """

    hot: dict[str, ASGIApp]
    """Template -> what answers POST requests to such paths."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            template, parameters = hot_path(scope["path"])
            if template in self.hot:
                scope["path_params"] = parameters
                await self.hot[template](scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create_app(settings: GatewaySettings) -> FastAPI:
    """The gateway for the models of the store; it connects to Redis when it is started.

    Raises:
        ModelError: if the model store does not have the default model.
        KeyFileError: if there is a file of API keys that can't be used.
    """
    service = Service(settings, ModelStore(settings.model_store))
    service.catalog.load()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await service.start()
        settle()
        # Where the protocol finds it.
        yield {STATE: service.connections}
        await service.stop()

    observing = (service.metrics, FailureLog(), service.tracing)
    app = Gateway(
        title="Millrace",
        version=version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        # A redirect would name the host and the scheme that the caller made up.
        redirect_slashes=False,
        # Pages of our own instead, which say what a browser may load.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.serves_docs else None,
        middleware=[Middleware(Observed, *observing)],
        exception_handlers={
            Problem: _problem,
            HTTPException: _http_exception,
            RequestValidationError: _invalid_parameter,
        },
    )
    app.hot = {}
    for endpoint, resource in ((PredictEndpoint, "predict"), (SubmitEndpoint, "jobs")):
        for prefix in ("", "/models/{name}", "/models/{name}/versions/{version}"):
            template = f"{prefix}/{resource}"
            answering = endpoint(service, template)
            app.router.routes.append(Route(template, answering, methods=["POST"]))
            app.hot[template] = Observed(answering, *observing)
    app.include_router(job_routes(service))
    app.include_router(catalog_routes(service))
    app.include_router(health_routes(service))
    if settings.serves_docs:
        app.include_router(docs_routes(app))
    install_openapi(app, service)
    return app


async def _problem(request: Request, problem: Any) -> Response:
    request.scope[PROBLEM] = problem.code
    response: Response = problem.response()
    return response


async def _http_exception(request: Request, error: Any) -> Response:
    """404 for unknown paths, 405 and the like."""
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The router names those of the first route with this path, and there may be another.
        headers["Allow"] = ", ".join(_allowed(request))
    return Problem(error.status_code, code, str(error.detail), headers).response()


def _allowed(request: Request) -> list[str]:
    return [
        method
        for method in sorted(METHODS)
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


async def _invalid_parameter(_: Request, error: Any) -> Response:
    """A path or query parameter that is not what the route takes."""
    items = [{"parameter": str(item["loc"][-1]), "detail": item["msg"]} for item in error.errors()]
    return Problem(422, "invalid_parameter", "a parameter is not acceptable", extra={"errors": items}).response()
