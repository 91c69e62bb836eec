"""Access by API keys: the whole app, without a Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.auth.api_keys import KeyFileError, KeyScope, digest_of
from tests.support.connections import started
from tests.support.coroutines import run, turns
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import classifier

pytestmark = pytest.mark.usefixtures("way")

MANIFEST = classifier()
ROW = {"length": 1.0, "width": 2.0}
OPEN = {"/livez", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"}
Asked = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


@pytest.fixture
def app_with(tmp_path: Path) -> Callable[..., FastAPI]:
    """A maker of gateways whose keys are named after their scopes, and `slow`, whose limit is one request."""
    keys = tmp_path / "keys"
    lines = [f"{scope.value} sha256:{digest_of(scope.value.encode()).hex()} {scope.value}\n" for scope in KeyScope]
    keys.write_text("".join(lines) + f"slow sha256:{digest_of(b'slow').hex()} predict rate=0.1 burst=1\n")

    def make(**settings: Any) -> FastAPI:
        return lone_gateway(tmp_path, **{"predict_deadline_seconds": 0.01, "api_keys_file": keys, **settings})

    return make


@pytest.fixture
def app(app_with: Callable[..., FastAPI]) -> FastAPI:
    return app_with()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def answers(app: FastAPI, *requests: tuple[str, str, dict[str, str]]) -> list[httpx.Response]:
    async def asking() -> list[httpx.Response]:
        async with started(app) as client:
            return [
                await client.request(method, path, headers=headers, json=ROW if method == "POST" else None)
                for method, path, headers in requests
            ]

    return run(asking())


def operations(app: FastAPI) -> list[tuple[str, str, str]]:
    """Method, path and scope of every operation of the gateway."""
    found = []
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                [security] = operation.get("security", [{"api_key": [""]}])
                filled = path.format(name=MANIFEST.name, version="v1", job_id="some")
                found.append((method.upper(), filled, security["api_key"][0]))
    return found


def test_nothing_but_probes_is_answered_without_a_key(app: FastAPI) -> None:
    asked = operations(app)
    responses = answers(app, *((method, path, {}) for method, path, _ in asked))

    assert {path for (_, path, scope) in asked if not scope} == OPEN
    for (_, path, _), response in zip(asked, responses, strict=True):
        if path in OPEN:
            assert response.status_code in (200, 503)
        else:
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == 'Bearer realm="headrace"'
            assert response.json()["type"] == "urn:headrace:problem:unauthorized"


def test_a_key_is_good_for_its_scope_and_nothing_else(app: FastAPI) -> None:
    asked = [(method, path, scope) for method, path, scope in operations(app) if scope]
    assert {scope for _, _, scope in asked} == {scope.value for scope in KeyScope}
    tries = [(method, path, scope, key.value) for method, path, scope in asked for key in KeyScope]
    responses = answers(app, *((method, path, bearer(key)) for method, path, _, key in tries))

    for (_, path, scope, key), response in zip(tries, responses, strict=True):
        if key == scope:
            assert response.status_code not in (401, 403), path
        else:
            assert response.status_code == 403, path
            assert f'error="insufficient_scope", scope="{scope}"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    "credentials", ["", "predict", "Bearer", "Bearer ", "Bearer Predict", "Basic predict", "Bearer predict predict"]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/models")])
def test_other_credentials_are_none(app: FastAPI, credentials: str, method: str, path: str) -> None:
    [response] = answers(app, (method, path, {"Authorization": credentials}))

    assert response.status_code == 401
    assert "predict" not in response.text


def test_the_scheme_is_of_either_case(app: FastAPI) -> None:
    [response] = answers(app, ("GET", "/models", {"Authorization": "bearer read"}))

    assert response.status_code == 200


def test_who_may_predict_only_gets_no_jobs_that_way(app: FastAPI) -> None:
    [response] = answers(app, ("POST", "/predict", bearer("predict") | {"Prefer": "respond-async"}))

    assert response.status_code == 403
    assert 'scope="jobs"' in response.headers["www-authenticate"]


def test_a_used_up_limit_is_429_and_counted(app: FastAPI) -> None:
    *_, used_up, metrics = answers(
        app,
        ("POST", "/predict", bearer("slow")),
        ("POST", "/predict", bearer("slow")),
        ("GET", "/metrics", bearer("metrics")),
    )

    assert used_up.status_code == 429
    assert used_up.json()["type"] == "urn:headrace:problem:rate_limited"
    assert 10 <= int(used_up.headers["retry-after"]) <= 16
    assert 'inference_rejections_total{reason="rate_limited"} 1.0' in metrics.text
    # Counted as `invalid`: `rejected` requests would burn the error budget.
    assert 'inference_requests_total{lane="interactive",model="sticks",outcome="invalid"} 1.0' in metrics.text


def test_what_a_key_may_not_do_counts_against_its_limit(app: FastAPI) -> None:
    responses = answers(
        app,
        ("GET", "/models", bearer("slow")),
        ("GET", "/health", bearer("slow")),
        ("POST", "/jobs", bearer("slow")),
        ("POST", "/predict", bearer("slow")),
    )

    assert [response.status_code for response in responses] == [403, 429, 429, 429]


def test_metrics_can_be_left_open(app_with: Callable[..., FastAPI]) -> None:
    [metrics, models] = answers(app_with(metrics_open=True), ("GET", "/metrics", {}), ("GET", "/models", {}))

    assert (metrics.status_code, models.status_code) == (200, 401)


@pytest.mark.parametrize(
    ("settings", "served"),
    [
        ({}, False),
        ({"docs_enabled": True}, True),
        ({"api_keys_file": None}, True),
        ({"api_keys_file": None, "docs_enabled": False}, False),
    ],
)
def test_docs_are_served_where_they_are_to_be(
    app_with: Callable[..., FastAPI], settings: dict[str, Any], served: bool
) -> None:
    paths = ("/docs", "/docs/docs.js", "/openapi.json", "/")
    *pages, root = answers(app_with(**settings), *(("GET", path, {}) for path in paths))

    assert [response.status_code for response in pages] == [200 if served else 404] * 3
    assert root.status_code == (307 if served else 404)


def test_the_document_of_a_model_needs_what_the_model_needs(app_with: Callable[..., FastAPI]) -> None:
    app, path = app_with(docs_enabled=True), "/models/sticks/openapi.json"
    tries = [{}, bearer("predict"), bearer("read")]

    assert [each.status_code for each in answers(app, *(("GET", path, key) for key in tries))] == [401, 403, 200]
    assert ("GET", path, "read") in operations(app)


def test_without_keys_openapi_speaks_of_none(app_with: Callable[..., FastAPI]) -> None:
    document = app_with(api_keys_file=None).openapi()

    assert "securitySchemes" not in document["components"]
    assert not any("security" in operation for item in document["paths"].values() for operation in item.values())


def test_answers_are_private_and_what_they_say_they_are(app: FastAPI) -> None:
    responses = answers(
        app, ("GET", "/livez", {}), ("GET", "/models", {}), ("POST", "/predict", bearer("predict")), ("GET", "/no", {})
    )

    assert {response.status_code for response in responses} == {200, 401, 404, 503}
    for response in responses:
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"


def test_without_a_usable_file_there_is_no_gateway(app_with: Callable[..., FastAPI], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        app_with(api_keys_file=tmp_path / "none")


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"waiting_rows_max": 8}, "queue_full"), ({"body_max_bytes": 300, "bodies_max_bytes": 1600}, "bodies_full")],
)
def test_rows_of_one_owner_that_wait_leave_room_for_others(
    app_with: Callable[..., FastAPI], settings: dict[str, int], code: str
) -> None:
    app = app_with(**settings)

    async def asking() -> list[tuple[int, str]]:
        async with started(app) as client:

            async def ask(key: str, deadline_seconds: float = 0.5) -> tuple[int, str]:
                path, rows = f"/predict?deadline={deadline_seconds}", {"instances": [ROW] * 4}
                answer = await client.post(path, json=rows, headers=bearer(key))
                return answer.status_code, answer.json()["type"].rpartition(":")[2]

            waiting = asyncio.create_task(ask("predict", 60.0))
            await turns(30)
            answers = [await ask("predict"), await ask("slow")]
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return [*answers, await ask("predict")]

    unanswered = (503, "broker_unavailable")
    assert run(asking()) == [(503, code), unanswered, unanswered]
