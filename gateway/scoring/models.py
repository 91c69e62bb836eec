"""`GET /v1/models`: models as TensorFlow Serving and KServe's first protocol describe them."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from gateway.api.responses import JSON, json_response
from gateway.api.schemas import problems
from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.services import Services
from gateway.web.request_context import context_of

ERRORS = problems(404, 422, 503, media_type=JSON)
"""Errors of the routes of one model, for OpenAPI."""

Name = Annotated[str, Path(max_length=64)]


class _NameConvertor(StringConvertor):
    """A name without the verb of `{name}:predict`, which takes no GET."""

    regex = "[^/:]+"


def scoring_model_routes(services: Services) -> APIRouter:
    """Return the routes."""
    register_url_convertor("model", _NameConvertor())
    router = APIRouter(prefix="/v1", tags=["other servers"], dependencies=services.guard.dependencies(KeyScope.READ))
    catalog, workers = services.catalog, services.workers

    def state(served: ServedModel) -> Response:
        refused = bool(workers.refusals(served.label))
        error = "workers refuse this version" if refused else ""
        version = {
            "version": served.manifest.version,
            "state": "END" if refused else "AVAILABLE",
            "status": {"error_code": "UNAVAILABLE" if refused else "OK", "error_message": error},
        }
        content = {"name": served.manifest.name, "ready": not refused, "model_version_status": [version]}
        return json_response({**content, "error": error}, 503) if refused else json_response(content)

    @router.get("/models", summary="Names of the models, as KServe has them", response_class=Response)
    async def models() -> Response:
        return json_response({"models": catalog.names})

    @router.get(
        "/models/{name:model}",
        summary="Whether workers take rows for a model",
        response_class=Response,
        responses=ERRORS,
    )
    async def model(request: Request, name: Name) -> Response:
        return state(await catalog.get(name, None, context_of(request.scope).owner))

    @router.get(
        "/models/{name:model}/versions/{version:model}",
        summary="Whether workers take rows for a version",
        response_class=Response,
        responses=ERRORS,
    )
    async def version(request: Request, name: Name, version: Name) -> Response:
        return state(await catalog.get(name, version, context_of(request.scope).owner))

    return router
