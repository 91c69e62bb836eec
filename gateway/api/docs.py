"""`/openapi.json`, the OpenAPI document, and `/docs`, the document as a page."""

import base64
import hashlib
import re

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.openapi import OpenApiDocument
from gateway.services import Services
from gateway.web.request_context import context_of

_DOCUMENT = "/openapi.json"
_SCRIPTS = "https://cdn.jsdelivr.net"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def docs_routes(app: FastAPI, services: Services) -> APIRouter:
    """Return the routes; the page may load Swagger UI's files and call this gateway, and nothing else."""
    router = APIRouter()
    document = OpenApiDocument(app, services)
    page = get_swagger_ui_html(openapi_url=_DOCUMENT, title=f"{app.title} API", swagger_favicon_url="data:,")
    # The browser runs only the inline scripts with these hashes.
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(bytes(page.body))
    )
    policy = {
        "default-src": "'none'",
        "script-src": f"{_SCRIPTS} {hashes}",
        "style-src": f"{_SCRIPTS} 'unsafe-inline'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    page.headers["Content-Security-Policy"] = "; ".join(f"{name} {value}" for name, value in policy.items())

    @router.get(_DOCUMENT, include_in_schema=False)
    async def openapi(request: Request) -> Response:
        text, prefix = await document.json(), context_of(request.scope).prefix
        if prefix:
            text = b'{"servers":%b,%b' % (orjson.dumps([{"url": prefix}]), text[1:])
        return Response(text, media_type="application/json")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page

    return router
