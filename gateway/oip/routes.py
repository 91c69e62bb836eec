"""Routes of the protocol beside inference: the server, its models, and the repository."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api.responses import JSON, json_response
from gateway.api.schemas import problems
from gateway.auth.api_keys import KeyScope
from gateway.oip.models import ERRORS, PREFIX, Name, repository_index, unloading_refused
from gateway.services import Services
from gateway.web.request_context import context_of
from headrace.version import __version__

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]


def oip_routes(services: Services) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["Open Inference Protocol"])
    reads = services.guard.dependencies(KeyScope.READ)
    catalog = services.catalog

    @router.get(PREFIX, summary="The server", dependencies=reads, response_class=Response)
    async def server() -> Response:
        return json_response({"name": "headrace", "version": __version__, "extensions": EXTENSIONS})

    @router.get(f"{PREFIX}/health/live", summary="Whether this process runs", response_class=Response)
    async def live() -> Response:
        return json_response({"live": True})

    @router.get(
        f"{PREFIX}/health/ready",
        summary="Whether predictions are served",
        response_class=Response,
        responses={503: {"description": "Not serving."}},
    )
    async def ready() -> Response:
        trouble = await services.trouble()
        # The protocol says `live`, and KServe's client reads `ready`.
        return json_response({"live": True, "ready": not trouble}, 503 if trouble else 200)

    @router.get(f"{PREFIX}/models", summary="Names of the models", dependencies=reads, response_class=Response)
    async def models() -> Response:
        return json_response({"models": catalog.names})

    @router.post(f"{PREFIX}/repository/index", summary="All models", dependencies=reads, response_class=Response)
    async def index() -> Response:
        return json_response(repository_index(catalog))

    model = f"{PREFIX}/repository/models/{{name}}"

    @router.post(f"{model}/load", summary="Find a model", dependencies=reads, responses=ERRORS, response_class=Response)
    async def load(request: Request, name: Name) -> Response:
        # Workers load a version at its first request, and new ones by themselves.
        await catalog.get(name, None, context_of(request.scope).owner)
        return json_response({})

    @router.post(
        f"{model}/unload",
        summary="Refuse: models leave the memory by themselves",
        dependencies=reads,
        response_class=Response,
        responses={400: problems(400, media_type=JSON)[400], **ERRORS},
    )
    async def unload(request: Request, name: Name) -> Response:
        await catalog.get(name, None, context_of(request.scope).owner)
        raise unloading_refused()

    return router
