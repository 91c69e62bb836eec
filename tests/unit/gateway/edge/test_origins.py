from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from gateway.auth.api_keys import digest_of
from gateway.settings import GatewaySettings
from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway

pytestmark = pytest.mark.usefixtures("way")

PAGE = "https://app.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture
def app_with(tmp_path: Path) -> Callable[..., FastAPI]:
    """A maker of gateways that ask for API keys."""
    keys = tmp_path / "keys"
    keys.write_text(f"page sha256:{digest_of(b'page').hex()} predict\n")

    def make(**settings: Any) -> FastAPI:
        return lone_gateway(tmp_path, api_keys_file=keys, **settings)

    return make


def asked(app: FastAPI, method: str, path: str, origin: str | None, **headers: str) -> httpx.Response:
    async def asking() -> httpx.Response:
        async with started(app) as client:
            given = {**headers, **({"Origin": origin} if origin is not None else {})}
            return await client.request(method, path, headers=given)

    return run(asking())


@pytest.mark.parametrize("path", ["/predict", "/models/sticks/predict", "/jobs", "/jobs/x", "/v2", "/invocations"])
def test_a_browser_that_asks_first_is_told_what_an_admitted_page_may_send(
    app_with: Callable[..., FastAPI], path: str
) -> None:
    response = asked(app_with(cors_origins=f"http://other, {PAGE}"), "OPTIONS", path, PAGE, **PREFLIGHT)

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert {"POST", "DELETE"} <= {*response.headers["Access-Control-Allow-Methods"].split(", ")}
    assert {"Authorization", "Content-Type"} <= {*response.headers["Access-Control-Allow-Headers"].split(", ")}
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("path", ["/predict", "/livez", "/nothing"])
def test_every_answer_is_shown_to_an_admitted_page(app_with: Callable[..., FastAPI], path: str) -> None:
    response = asked(app_with(cors_origins=PAGE), "POST", path, PAGE)

    assert response.status_code >= 400
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert response.headers["Vary"] == "origin"
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.usefixtures("way")
def test_a_packed_answer_varies_by_both(app_with: Callable[..., FastAPI]) -> None:
    app = app_with(cors_origins=PAGE, docs_enabled=True)
    response = asked(app, "GET", "/docs/swagger-ui.css", PAGE, **{"Accept-Encoding": "gzip"})

    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers.get_list("Vary") == ["origin, accept-encoding"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", f"{PAGE}:8443", PAGE.replace("s", ""), "null", "", None]
)
@pytest.mark.parametrize("cors_origins", ["", PAGE])
def test_other_pages_get_no_leave(app_with: Callable[..., FastAPI], origin: str | None, cors_origins: str) -> None:
    app = app_with(cors_origins=cors_origins)

    for response in (
        asked(app, "OPTIONS", "/predict", origin, **PREFLIGHT),
        asked(app, "POST", "/predict", origin),
    ):
        assert response.status_code in (401, 405)
        assert not any(name.startswith("access-control") for name in response.headers)


def test_a_star_admits_every_page(app_with: Callable[..., FastAPI]) -> None:
    assert asked(app_with(cors_origins="*"), "POST", "/predict", "null").headers["Access-Control-Allow-Origin"] == "*"


def test_a_question_without_a_method_is_none(app_with: Callable[..., FastAPI]) -> None:
    assert asked(app_with(cors_origins="*"), "OPTIONS", "/predict", PAGE).status_code == 405


@pytest.mark.parametrize("origins", ["app.example.com", f"{PAGE}/", "https://App.example.com", "https://*.example.com"])
def test_what_no_browser_sends_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValidationError, match=r"is no origin: write it as browsers send it"):
        GatewaySettings(cors_origins=f"{PAGE},{origins}")
