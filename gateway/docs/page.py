"""The page `/docs`: Swagger UI, all of whose files come from this gateway."""

import hashlib
from importlib import resources
from typing import NamedTuple

from starlette.responses import HTMLResponse, Response

FOLDER = "/docs"

_SWAGGER_UI, _OWN = "fastapi_swagger.resources", "gateway.docs"
_TYPES = {"js": "text/javascript", "css": "text/css", "png": "image/png"}

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    # Swagger UI's style sheet holds its icons.
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_CACHED = {"Cache-Control": "public, max-age=31536000, immutable"}


class Asset(NamedTuple):
    """A file that the page loads."""

    name: str
    content: bytes

    @property
    def address(self) -> str:
        """The address as the page has it: it changes with the content, so that a browser may keep the file."""
        return f"{FOLDER[1:]}/{self.name}?{hashlib.sha256(self.content).hexdigest()[:16]}"

    def response(self) -> Response:
        """Return the file as a response."""
        return Response(self.content, 200, _CACHED, _TYPES[self.name.rpartition(".")[2]])


def read_assets() -> list[Asset]:
    """Return the files that the page loads, and no others of their folders."""
    swagger_ui, own = resources.files(_SWAGGER_UI), resources.files(_OWN) / "static"
    files = [swagger_ui / name for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")]
    files += [own / "docs.js", own / "docs.css"]
    return [Asset(each.name, each.read_bytes()) for each in files]


def page_of(assets: list[Asset]) -> Response:
    """Return the page, which may load these files and ask this gateway, and nothing else."""
    html = (resources.files(_OWN) / "static" / "docs.html").read_text()
    for asset in assets:
        html = html.replace(f"{{{asset.name}}}", asset.address)
    policy = "; ".join(f"{name} {value}" for name, value in _POLICY.items())
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})
