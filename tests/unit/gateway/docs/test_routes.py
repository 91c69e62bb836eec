"""The page `/docs`, its files and its documents, asked of the whole app."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import classifier, mixed, regressor, stored, text

STICKS, DOORS = classifier(), classifier(("height", "width"), (True, False), name="doors")


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """A gateway without a Redis, with four models."""
    for manifest in (STICKS, DOORS, regressor(), mixed(text("colour"), name="paints")):
        stored(tmp_path, manifest)
    return create_app(
        GatewaySettings(redis_url="redis://127.0.0.1:1/0", model_store=str(tmp_path), default_model="sticks")
    )


def got(app: FastAPI, *paths: str) -> list[httpx.Response]:
    async def asking() -> list[httpx.Response]:
        async with started(app) as client:
            return [await client.get(path) for path in paths]

    return run(asking())


def documents(app: FastAPI, *paths: str) -> list[dict[str, Any]]:
    return [response.json() for response in got(app, *paths)]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that stands alone."""
    return {**schema, "components": document["components"]}


def test_the_page_names_files_of_the_gateway_only(app: FastAPI) -> None:
    [page] = got(app, "/docs")
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page.text)

    assert len(addresses) == 6
    assert not [address for address in addresses if ":" in address or address.startswith("/")]
    files = got(app, *(f"/{address}" for address in addresses))
    assert {file.status_code for file in files} == {200}
    assert {file.headers["content-type"].partition(";")[0] for file in files} == {
        *("text/css", "text/javascript", "image/png", "application/json")
    }


def test_the_page_may_load_nothing_from_elsewhere(app: FastAPI) -> None:
    [page] = got(app, "/docs")
    policy = page.headers["content-security-policy"]

    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy


def test_a_file_may_be_kept_and_a_page_may_not(app: FastAPI) -> None:
    page, file = got(app, "/docs", "/docs/swagger-ui.css")

    assert page.headers.get_list("cache-control") == ["no-store"]
    assert file.headers.get_list("cache-control") == ["public, max-age=31536000, immutable"]
    assert file.headers["x-content-type-options"] == "nosniff"


def test_only_listed_files_are_served(app: FastAPI) -> None:
    paths = ["/docs/docs.html", "/docs/main.py", "/docs/../page.py", "/docs/%2e%2e/page.py", "/docs/"]
    assert {response.status_code for response in got(app, *paths)} == {404}


def test_the_root_leads_to_the_page_by_a_relative_address(app: FastAPI) -> None:
    async def asking() -> list[httpx.Response]:
        async with started(app) as client:
            return [await client.get("/"), await client.head("/")]

    for root in run(asking()):
        assert (root.status_code, root.headers["location"]) == (307, "./docs")


def test_without_the_page_every_address_of_it_says_why(tmp_path: Path) -> None:
    app = lone_gateway(tmp_path, docs_enabled=False)

    for response in got(app, "/", "/docs", "/openapi.json", "/models/sticks/openapi.json"):
        assert response.status_code == 404
        assert "DOCS_ENABLED" in response.json()["detail"]


def test_predictions_come_first(app: FastAPI) -> None:
    for document in documents(app, "/openapi.json", "/models/doors/openapi.json"):
        groups = [tag["name"] for tag in document["tags"]]
        used = [
            operation["tags"][0]
            for item in document["paths"].values()
            for method, operation in item.items()
            if method != "parameters"
        ]
        assert groups[:3] == ["predictions", "jobs", "models"]
        assert {*used} == {*groups}
        assert next(iter(document["paths"])).endswith("/predict")


def test_a_model_has_its_own_document(app: FastAPI) -> None:
    default, doors = documents(app, "/openapi.json", "/models/doors/openapi.json")

    assert [*default["components"]["schemas"]["Rows"]["oneOf"][0]["properties"]] == ["length", "width"]
    assert [*doors["components"]["schemas"]["Rows"]["oneOf"][0]["properties"]] == ["height", "width"]
    assert doors["components"]["schemas"]["Value"] == {"enum": [True, False]}
    assert [*doors["components"]["schemas"]["Probabilities"]["properties"]] == ["true", "false"]
    assert "/models/doors/versions/{version}/jobs" in doors["paths"]
    assert not {"/predict", "/invocations"} & doors["paths"].keys()
    assert "post" not in doors["paths"].get("/jobs", {})
    assert "{name}" not in json.dumps(doors["paths"])
    assert '"name": "name"' not in json.dumps(doors["paths"])


def test_an_unknown_model_has_no_document(app: FastAPI) -> None:
    assert got(app, "/models/nobody/openapi.json")[0].status_code == 404


@pytest.mark.parametrize("name", ["sticks", "doors", "weights", "paints"])
def test_examples_fit_their_schemas(app: FastAPI, name: str) -> None:
    [document] = documents(app, f"/models/{name}/openapi.json")
    operation = document["paths"][f"/models/{name}/predict"]["post"]

    for content in (operation["requestBody"]["content"], operation["responses"]["200"]["content"]):
        shown = content["application/json"]
        assert len(shown["examples"]) == 2
        for example in shown["examples"].values():
            jsonschema.validate(example["value"], resolved(document, shown["schema"]))


def test_every_header_of_a_request_is_described(app: FastAPI) -> None:
    [document] = documents(app, "/openapi.json")

    def headers(path: str) -> set[str]:
        return {each["name"] for each in document["paths"][path]["post"]["parameters"] if each["in"] == "header"}

    common = {"X-Split-Key", "traceparent"}
    assert headers("/predict") == {"Prefer", "Idempotency-Key", *common}
    assert headers("/jobs") == {"Idempotency-Key", *common}
    assert headers("/v2/models/{name}/infer") == headers("/invocations") == common


def test_addresses_are_relative_to_the_document(app: FastAPI) -> None:
    all_models, doors = documents(app, "/openapi.json", "/models/doors/openapi.json")
    base = "http://proxy/prefix/"

    for document, path in ((all_models, "openapi.json"), (doors, "models/doors/openapi.json")):
        [server] = document["servers"]
        assert str(httpx.URL(base + path).join(server["url"])) == base
