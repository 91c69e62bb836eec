"""`/docs` and its files, `/`, which leads there, and the OpenAPI documents."""

import orjson
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from gateway.api.models import ModelName
from gateway.api.responses import JSON
from gateway.api.schemas import problems
from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.docs.document import OpenApi
from gateway.docs.page import FOLDER, Asset, page_of, read_assets
from gateway.fairness.written import WrittenDocuments
from gateway.problems import Problem
from gateway.services import Services
from gateway.web.request_context import context_of

KEPT_BYTES = 50_000_000
"""Bytes of all kept documents of a kind. One of 10,000 features has some 5 MB."""


def docs_routes(openapi: OpenApi, services: Services) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    catalog = services.catalog
    of_all = WrittenDocuments[ServedModel](lambda served: orjson.dumps(openapi.of_all(served)), KEPT_BYTES)
    of_models = WrittenDocuments[ServedModel](lambda served: orjson.dumps(openapi.of_model(served)), KEPT_BYTES)
    assets = read_assets()
    page = page_of(assets)

    @router.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        return Response(await of_all.of(catalog.default), media_type=JSON)

    @router.get(
        "/models/{name}/openapi.json",
        tags=["models"],
        summary="OpenAPI of one model: its rows, classes and examples",
        dependencies=services.guard.dependencies(KeyScope.READ),
        response_class=Response,
        responses=problems(404, 422, 503),
    )
    async def model_document(request: Request, name: ModelName) -> Response:
        owner = context_of(request.scope).owner
        # Never a version on trial: the document must not change by chance.
        version = catalog.aliases(name).get(catalog.alias_of(name))
        served = await catalog.get(name, version, owner)
        return Response(await of_models.of(served, owner, request.is_disconnected), media_type=JSON)

    @router.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        # Behind a prefix of which the gateway does not know, a relative address leads to the same place.
        return RedirectResponse((context_of(request.scope).prefix or ".") + FOLDER)

    @router.get(FOLDER, include_in_schema=False)
    async def docs() -> Response:
        return page

    for asset in assets:
        _add(router, asset)
    return router


def refused_docs_routes() -> APIRouter:
    """Return the routes that say why there is no documentation."""
    router = APIRouter()

    async def refuse() -> Response:
        raise Problem(404, "not_found", "the documentation is off: the setting DOCS_ENABLED turns it on")

    for path in ("/", FOLDER, "/openapi.json", "/models/{name}/openapi.json"):
        router.get(path, include_in_schema=False)(refuse)
    return router


def _add(router: APIRouter, asset: Asset) -> None:
    response = asset.response()

    @router.get(f"{FOLDER}/{asset.name}", include_in_schema=False)
    async def file() -> Response:
        return response
