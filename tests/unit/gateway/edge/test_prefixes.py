from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from gateway.edge.prefixes import Prefixes, PrefixTaken
from gateway.settings import PREFIX_MAX_CHARACTERS, GatewaySettings
from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import classifier

MANIFEST = classifier()
PROXY = "10.1.2.3"
DOTS = ["/..", "/.", "/ml/..", "/../ml", "/ml/./fraud"]
"""Prefixes that a browser takes for others."""


@pytest.fixture
def app_with(tmp_path: Path) -> Callable[..., FastAPI]:
    """A maker of gateways whose Redis is a port on which nobody listens."""

    def make(**settings: Any) -> FastAPI:
        return lone_gateway(tmp_path, **settings)

    return make


def asked(app: FastAPI, method: str, path: str, **headers: str) -> httpx.Response:
    async def asking() -> httpx.Response:
        async with started(app) as client:
            row = {"instances": [{"length": 1.0, "width": 2.0}]} if method == "POST" else None
            return await client.request(method, path, json=row, headers=headers)

    return run(asking())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("prefix", ["", "/ml", "/ml/fraud"])
@pytest.mark.parametrize("path", ["/predict", "/models/sticks/predict", "/v1/models/sticks:predict"])
def test_a_proxy_may_leave_the_prefix_in_the_path(app_with: Callable[..., FastAPI], prefix: str, path: str) -> None:
    app = app_with(root_path=prefix)

    for asked_path in {path, f"{prefix}{path}"}:
        assert asked(app, "POST", asked_path).status_code == 503
    assert asked(app, "POST", f"/ml/fraudulent{path}").status_code == 404


@pytest.mark.usefixtures("way")
def test_the_document_is_for_any_prefix(app_with: Callable[..., FastAPI]) -> None:
    document = asked(app_with(root_path="/ml"), "GET", "/ml/openapi.json").json()

    [server] = document["servers"]
    assert httpx.URL("http://proxy/ml/openapi.json").join(server["url"]) == "http://proxy/ml/"
    assert document["paths"] == asked(app_with(), "GET", "/openapi.json").json()["paths"]


@pytest.mark.usefixtures("way")
def test_the_prefix_alone_leads_to_the_page(app_with: Callable[..., FastAPI]) -> None:
    app = app_with(root_path="/ml")

    for path in ("/ml", "/ml/", "/"):
        root = asked(app, "GET", path)
        assert (root.status_code, root.headers["location"]) == (307, "/ml/docs")
    assert asked(app, "GET", "/mlx").status_code == 404


@pytest.mark.parametrize("prefix", ["/models", "/v1/x", "/predict", "/livez", "/docs"])
def test_a_prefix_that_is_a_route_is_refused_at_the_start(app_with: Callable[..., FastAPI], prefix: str) -> None:
    with pytest.raises(PrefixTaken, match="choose another prefix"):
        app_with(root_path=prefix)


@pytest.mark.parametrize(
    "prefix", ["ml", "/", "/ml/", "//ml", "/m l", "/ml?", "/ml\n", "/x" * PREFIX_MAX_CHARACTERS, *DOTS]
)
def test_a_malformed_prefix_is_refused_at_the_start(prefix: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(root_path=prefix)


@pytest.mark.parametrize("networks", ["proxy", "10.0.0.0/33", "10.1.2.3/8", "::1, x"])
def test_trusted_proxies_are_addresses_or_networks(networks: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(trusted_proxies=networks)


def test_a_trusted_proxy_names_the_prefix() -> None:
    prefixes = Prefixes("/ml", GatewaySettings(trusted_proxies="10.0.0.0/8, ::1").proxies)

    assert prefixes.of([(b"x-forwarded-prefix", b"/fraud/")], PROXY) == "/fraud"
    assert prefixes.of([(b"x-forwarded-prefix", b"/fraud")], "::1") == "/fraud"
    assert prefixes.of([(b"x-forwarded-prefix", b"/.well.known/..a/...")], PROXY) == "/.well.known/..a/..."
    assert prefixes.of([(b"x-forwarded-prefix", b"/")], PROXY) == ""
    assert prefixes.of([], PROXY) == "/ml"


@pytest.mark.parametrize("address", ["11.1.2.3", "", "proxy", "::2"])
def test_others_name_none(address: str) -> None:
    prefixes = Prefixes("/ml", [ip_network("10.0.0.0/8")])

    assert prefixes.of([(b"x-forwarded-prefix", b"/fraud")], address) == "/ml"


@pytest.mark.parametrize(
    "given",
    [
        [b"/a", b"/b"],
        [b"//evil.example.com"],
        [b"https://evil.example.com"],
        [b"/a\\b"],
        [b"/a%0d%0a"],
        [b"/a, /b"],
        [b"/" + b"x" * PREFIX_MAX_CHARACTERS],
        [b"/\xff"],
        *([dots.encode()] for dots in DOTS),
    ],
)
def test_what_may_be_a_callers_own_is_ignored(given: list[bytes]) -> None:
    prefixes = Prefixes("/ml", [ip_network("10.0.0.0/8")])

    assert prefixes.of([(b"x-forwarded-prefix", value) for value in given], PROXY) == "/ml"
