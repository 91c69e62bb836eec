"""Routes of the protocol beside inference: the server, its models, and the repository."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api.responses import JSON, json_response
from gateway.api.schemas import problems
from gateway.auth.api_keys import KeyScope
from gateway.catalog.row_examiner import parse_json
from gateway.errors import InvalidTensors
from gateway.oip.models import ERRORS, PREFIX, Name, repository_index, unloading_refused
from gateway.problems import Problem
from gateway.services import Services
from gateway.web.request_context import context_of
from headrace.version import __version__

INDEX_BYTES_MAX = 1_000
"""Longest body of a request for the index: it is parsed without a turn."""

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

    @router.post(
        f"{PREFIX}/repository/index",
        summary="All models, or with `ready` those that workers take rows for",
        dependencies=reads,
        response_class=Response,
        responses=problems(400, 413, 503, media_type=JSON),
    )
    async def index(request: Request) -> Response:
        # Triton's client declares no type, and sends no body for all models.
        body = await services.body_reader.read({}, request.receive, context_of(request.scope).owner, (b"",))
        return json_response(repository_index(catalog, services.workers, _only_ready(body)))

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


def _only_ready(body: bytes) -> bool:
    """Return True if the body of a request for the index asks for models that are ready.

    Raises:
        Problem: 413 if it is long.
        InvalidJson: if it is not JSON.
        InvalidTensors: if it is no such request.
    """
    if len(body) > INDEX_BYTES_MAX:
        raise Problem(413, "too_large", f"the body is larger than {INDEX_BYTES_MAX} bytes")
    content = parse_json(body) if body else {}
    ready = content.get("ready", False) if isinstance(content, dict) else None
    if not isinstance(ready, bool):
        raise InvalidTensors("a request for the index is an object, in which ready is true or false")
    return ready
