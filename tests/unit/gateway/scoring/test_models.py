"""Models as TensorFlow Serving and KServe's first protocol describe them, asked of the whole app."""

from pathlib import Path

import httpx
import pytest

from gateway.broker.workers import Workers
from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway


def asked(folder: Path, *requests: tuple[str, str]) -> list[httpx.Response]:
    async def asking() -> list[httpx.Response]:
        async with started(lone_gateway(folder)) as client:
            return [
                await client.request(method, path, json={} if method == "POST" else None) for method, path in requests
            ]

    return run(asking())


@pytest.mark.parametrize(
    "path", ["/v1/models/sticks", "/v1/models/sticks/versions/v1", "/v1/models/sticks/versions/latest"]
)
def test_one_answer_has_the_members_of_both_servers(tmp_path: Path, path: str) -> None:
    [response] = asked(tmp_path, ("GET", path))

    status = {"version": "v1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert response.json() == {"name": "sticks", "ready": True, "model_version_status": [status]}


def test_a_version_that_workers_refuse_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workers, "refusals", lambda *_: {"damaged"})

    [response] = asked(tmp_path, ("GET", "/v1/models/sticks"))

    assert (response.status_code, response.json()["ready"]) == (503, False)
    assert response.json()["error"] == "workers refuse this version"
    assert response.json()["model_version_status"][0]["state"] == "END"


def test_the_models_are_a_list_of_names(tmp_path: Path) -> None:
    assert asked(tmp_path, ("GET", "/v1/models"))[0].json() == {"models": ["sticks"]}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/none", 404),
        ("GET", "/v1/models/sticks/versions/v9", 404),
        ("GET", f"/v1/models/{'x' * 65}", 422),
        ("POST", "/v1/models/none:predict", 404),
        ("POST", "/v1/models/sticks:predict", 422),
        ("GET", "/v1/models/sticks:predict", 405),
        ("GET", "/v1/nothing", 404),
    ],
)
def test_errors_are_those_of_the_servers_and_problems(tmp_path: Path, method: str, path: str, status: int) -> None:
    [response] = asked(tmp_path, (method, path))

    content = response.json()
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert content["error"].startswith(content["detail"])
    assert content["type"].startswith("urn:headrace:problem:")
    assert response.headers.get("allow", "POST") == "POST"
