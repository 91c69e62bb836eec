"""`/models` and `/model-info`: models, their versions, aliases and cards, and the workers that have them loaded."""

import re
import secrets
from html import escape
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway.api.responses import JSON, json_response
from gateway.api.schemas import problems
from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.fairness.written import WrittenDocuments
from gateway.services import Services
from gateway.web.request_context import context_of
from headrace.page.public_card import public_card

ModelName = Annotated[str, Path(max_length=64)]

_HTML = "text/html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; sandbox"
"""Policy of a card's page: the browser loads and runs nothing."""

_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_HERE = "127.0.0.1:8000"
"""Host and port that a request without a usable `Host` is told."""


def model_routes(services: Services) -> APIRouter:
    """Return the routes that describe models."""
    router = APIRouter(tags=["models"], dependencies=services.guard.dependencies(KeyScope.READ))
    catalog, workers = services.catalog, services.workers

    def described(served: ServedModel) -> Response:
        manifest = served.manifest
        loaded = workers.loaded_by(served.label)
        state = {
            "aliases": catalog.aliases(manifest.name),
            "moving": catalog.moves(manifest.name),
            "trials": catalog.trials(manifest.name),
            "loaded_by": sorted(worker for worker, by_all in loaded.items() if by_all),
            "refused": sorted(workers.refusals(served.label)),
        }
        return Response(served.manifest_json[:-1] + b"," + orjson.dumps(state)[1:], media_type=JSON)

    @router.get(
        "/model-info",
        summary="The default model, and where it is loaded",
        response_class=Response,
        responses=problems(404),
    )
    async def model_info() -> Response:
        return described(catalog.default)

    @router.get("/models", summary="All models", response_class=Response)
    async def models() -> Response:
        content = [
            {"name": name, "default": name == catalog.default_model, "aliases": catalog.aliases(name)}
            for name in catalog.names
        ]
        return json_response({"models": content})

    @router.get(
        "/models/{name}", summary="A model as it is served", response_class=Response, responses=problems(404, 422, 503)
    )
    async def model(request: Request, name: ModelName) -> Response:
        return described(await catalog.get(name, None, context_of(request.scope).owner))

    @router.get(
        "/models/{name}/versions/{version}",
        summary="One version of a model",
        response_class=Response,
        responses=problems(404, 422, 503),
    )
    async def version(request: Request, name: ModelName, version: ModelName) -> Response:
        return described(await catalog.get(name, version, context_of(request.scope).owner))

    # Its caller chooses the address in a card, which is put into the page that is kept.
    address = secrets.token_hex(16)
    cards = WrittenDocuments[ServedModel](lambda served: public_card(served.manifest, address).encode())

    async def card(request: Request, name: str, version: str | None = None) -> Response:
        owner = context_of(request.scope).owner
        served = await catalog.get(name, version, owner)
        page = await cards.of(served, owner, request.is_disconnected)
        url = f"{_address_of(request)}/models/{name}{f'/versions/{version}' if version else ''}"
        page = page.replace(address.encode(), escape(url).encode())
        return Response(page, headers={"Content-Security-Policy": _POLICY}, media_type=_HTML)

    responses: dict[int | str, dict[str, Any]] = {200: {"content": {_HTML: {}}}, **problems(404, 422, 503)}

    @router.get("/models/{name}/card", summary="A model's card, a page", response_class=Response, responses=responses)
    async def model_card(request: Request, name: ModelName) -> Response:
        return await card(request, name)

    @router.get(
        "/models/{name}/versions/{version}/card",
        summary="A version's card, a page",
        response_class=Response,
        responses=responses,
    )
    async def version_card(request: Request, name: ModelName, version: ModelName) -> Response:
        return await card(request, name, version)

    return router


def _address_of(request: Request) -> str:
    """Return the address of the gateway by which a request came; only its caller reads the answer."""
    headers = request.headers
    given = headers.get("host", "")
    host = given if _HOST.fullmatch(given) else _HERE
    scheme = "https" if "https" in (request.scope["scheme"], headers.get("x-forwarded-proto")) else "http"
    return f"{scheme}://{host}{context_of(request.scope).prefix}"
