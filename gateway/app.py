"""The gateway's ASGI app: wiring only."""

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

from gateway.api.endpoint import HotEndpoint
from gateway.api.health import health_routes
from gateway.api.jobs import SubmitEndpoint, job_routes
from gateway.api.models import model_routes
from gateway.api.predict import PredictEndpoint
from gateway.api.responses import JSON
from gateway.api.statuses import problem_of
from gateway.docs.document import OpenApi
from gateway.docs.routes import docs_routes, refused_docs_routes
from gateway.edge.origins import Origins, PreflightMiddleware
from gateway.edge.prefixes import Prefixes
from gateway.errors import RequestError
from gateway.gc_tuning import freeze_startup_objects
from gateway.oip.infer import InferEndpoint, InferStatistics
from gateway.oip.models import PREFIX, oip_model_routes
from gateway.oip.routes import oip_routes
from gateway.problems import Problem, error_body
from gateway.scoring.endpoint import InvocationsEndpoint, TensorFlowEndpoint
from gateway.scoring.models import scoring_model_routes
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.web.error_log import ErrorLog
from gateway.web.exchange import METHODS, Exchanges
from gateway.web.hot_cycle import HOT_ROUTES, HotRoutes
from gateway.web.hot_request import match_path
from gateway.web.http_protocol import STATE
from gateway.web.middleware import HeadMiddleware, RequestMiddleware
from gateway.web.request_context import context_of
from headrace.models.store import ModelStore
from headrace.version import __version__

OF_OTHER_SERVERS = ("/v1/", "/v2/")
"""Beginnings of the paths whose callers expect a member `error` in errors."""

DESCRIPTION = "Serves scikit-learn models behind a queue."


class Gateway(FastAPI):
    """The app, with a shortcut to the hot routes: FastAPI's middleware and routing cost more than an answer.

    Requests that the shortcut does not match (another method, a path with a slash too many) go through FastAPI, where
    the hot routes are registered too.
    """

    hot_routes: dict[str, ASGIApp]
    """Apps that answer POST requests, by path template."""

    prefixes: Prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["path"] = self.prefixes.without(scope["path"])
        if scope["method"] == "POST":
            template, parameters = match_path(scope["path"])
            if template in self.hot_routes:
                scope["path_params"] = parameters
                await self.hot_routes[template](scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create_app(settings: GatewaySettings) -> FastAPI:
    """Make the gateway for the models of the store; it connects to Redis when it is started.

    Raises:
        ModelError: if the model store is not there or does not answer, or the default model's version must be signed
            and is not.
        KeyFileError: if the file of API keys can't be used.
        PrefixTaken: if the path prefix is one of a route.
    """
    services = Services(settings, ModelStore(settings.model_store))
    services.catalog.load()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await services.start()
        freeze_startup_objects()
        # The protocol reads it.
        yield {STATE: services.connections, HOT_ROUTES: HotRoutes(endpoints, exchanges)}
        await services.stop()

    origins, prefixes = Origins(settings.origins), Prefixes(settings.root_path, settings.proxies)
    exchanges = Exchanges(services.metrics, ErrorLog(), services.tracing, services.answers, origins, prefixes)
    endpoints: dict[str, HotEndpoint] = {}
    app = Gateway(
        title="Headrace",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # A redirect would repeat the host and the scheme of the request, which the caller chose.
        redirect_slashes=False,
        # Served by `docs_routes` instead: the document is written once, the page has a policy of what a browser loads.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[
            Middleware(RequestMiddleware, exchanges),
            Middleware(PreflightMiddleware, origins),
            Middleware(HeadMiddleware),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.prefixes = prefixes
    statistics = InferStatistics()
    for prefix in ("", "/models/{name}", "/models/{name}/versions/{version}"):
        endpoints[f"{prefix}/predict"] = PredictEndpoint(services, f"{prefix}/predict")
        endpoints[f"{prefix}/jobs"] = SubmitEndpoint(services, f"{prefix}/jobs")
        if prefix:
            template = f"{PREFIX}{prefix}/infer"
            endpoints[template] = InferEndpoint(services, template, statistics)
            template = f"/v1{prefix}:predict"
            endpoints[template] = TensorFlowEndpoint(services, template)
    endpoints["/invocations"] = InvocationsEndpoint(services, "/invocations")
    app.hot_routes = {template: RequestMiddleware(endpoint, exchanges) for template, endpoint in endpoints.items()}
    app.router.routes += [Route(template, endpoint, methods=["POST"]) for template, endpoint in endpoints.items()]
    openapi = OpenApi(app, services)
    routers = [
        job_routes(services),
        model_routes(services),
        health_routes(services),
        scoring_model_routes(services),
        oip_routes(services),
        oip_model_routes(services, statistics),
        docs_routes(openapi, services) if settings.serves_docs else refused_docs_routes(),
    ]
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes if isinstance(route, Route)]
    prefixes.check([*endpoints, *(route.path for route in routes)])
    app.openapi = lambda: openapi.of_all(services.catalog.default)  # type: ignore[method-assign]
    return app


async def _problem(request: Request, problem: Any) -> Response:
    context_of(request.scope).problem = problem.code
    if f"{request.url.path}/".startswith(OF_OTHER_SERVERS):
        return Response(error_body(problem), problem.status, problem.headers, JSON)
    response: Response = problem.response()
    return response


async def _request_error(request: Request, error: Any) -> Response:
    return await _problem(request, problem_of(error))


async def _http_exception(request: Request, error: Any) -> Response:
    """Answer with 404 for unknown paths, 405 and the like."""
    codes = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The router names only the methods of the first route with this path.
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return await _problem(request, Problem(error.status_code, code, str(error.detail), headers))


def _allowed_methods(request: Request) -> list[str]:
    allowed = {
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    }
    return sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)


async def _invalid_parameter(request: Request, error: Any) -> Response:
    """Answer with 422 for a path or query parameter that the route does not accept."""
    items = [{"parameter": str(item["loc"][-1]), "detail": item["msg"]} for item in error.errors()]
    problem = Problem(422, "invalid_parameter", "a parameter is not acceptable", extra={"errors": items})
    return await _problem(request, problem)


EXCEPTION_HANDLERS: dict[Any, Any] = {
    Problem: _problem,
    RequestError: _request_error,
    HTTPException: _http_exception,
    RequestValidationError: _invalid_parameter,
}
"""Functions that answer exceptions of routes, as FastAPI wants them."""
