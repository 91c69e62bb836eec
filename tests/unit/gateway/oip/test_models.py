"""Models as the Open Inference Protocol describes them, asked of the whole app and of the methods over gRPC."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.broker.workers import Workers
from gateway.oip.infer import InferStatistics
from gateway.rpc.messages import INFERENCE, message_class
from gateway.rpc.methods import SERVICE, methods_of
from gateway.services import Services
from gateway.settings import GatewaySettings
from headrace.models.store import ModelStore
from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import classifier, stored

pytestmark = pytest.mark.unit

MANIFEST = classifier()


def index(folder: Path, body: bytes) -> httpx.Response:
    async def asking() -> httpx.Response:
        async with started(lone_gateway(folder)) as client:
            return await client.post("/v2/repository/index", content=body)

    return run(asking())


def called(folder: Path, method: str, **fields: Any) -> Any:
    """Return the message that a method answers over gRPC."""

    async def calling() -> bytes:
        stored(folder / "models", MANIFEST)
        services = Services(GatewaySettings(default_model=MANIFEST.name), ModelStore(str(folder / "models")))
        services.catalog.load()
        found = methods_of(services, InferStatistics())[f"/{SERVICE}/{method}"]
        return await found.answer(message_class(INFERENCE, found.request)(**fields).SerializeToString(), "")

    return message_class(INFERENCE, f"{method}Response").FromString(run(calling()))


@pytest.mark.parametrize("refusals", [set(), {"damaged", "no such file"}])
def test_the_index_says_of_each_version_whether_workers_refuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: set[str]
) -> None:
    monkeypatch.setattr(Workers, "refusals", lambda *_: refusals)
    state, reason = ("UNAVAILABLE", "damaged; no such file") if refusals else ("READY", "")
    expected = [{"name": "sticks", "version": "v1", "state": state, "reason": reason}]

    for body in (b"", b"{}", b'{"ready": false}'):
        assert index(tmp_path, body).json() == expected
    ready = index(tmp_path, b'{"ready": true}')
    assert ready.json() == ([] if refusals else expected)
    over_grpc = called(tmp_path / "grpc", "RepositoryIndex").models
    assert [(each.state, each.reason) for each in over_grpc] == [(state, reason)]
    assert len(called(tmp_path / "ready", "RepositoryIndex", ready=True).models) == (0 if refusals else 1)


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b'{"ready": 1}', 400), (b"[" * 1001, 413)], ids=str
)
def test_another_request_for_the_index_is_refused(tmp_path: Path, body: bytes, status: int) -> None:
    response = index(tmp_path, body)

    assert (response.status_code, type(response.json()["error"])) == (status, str)


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("", "", True),
        (MANIFEST.name, "v1", True),
        ("none", "", False),
        ("../x", "", False),
        (MANIFEST.name, "v9", False),
    ],
)
def test_a_model_that_is_not_there_is_not_ready_over_grpc(tmp_path: Path, name: str, version: str, ready: bool) -> None:
    assert called(tmp_path, "ModelReady", name=name, version=version).ready is ready


@pytest.mark.usefixtures("way")
def test_failed_requests_are_in_the_statistics(tmp_path: Path) -> None:
    """Refused rows count, and a prediction that is not made in time; a body of another type is no such request."""
    row = {"name": "x", "datatype": "FP64", "shape": [1, len(MANIFEST.features)]}
    valid = {"inputs": [{**row, "data": [1.0] * len(MANIFEST.features)}]}

    async def asking() -> tuple[list[int], Any]:
        async with started(lone_gateway(tmp_path)) as client:
            url = f"/v2/models/{MANIFEST.name}"
            answers = [await client.post(f"{url}/infer", json=body) for body in ({}, valid)]
            answers.append(await client.post(f"{url}/infer", content="x", headers={"Content-Type": "text/plain"}))
            return [each.status_code for each in answers], (await client.get(f"{url}/stats")).json()

    statuses, content = run(asking())

    assert (statuses[0], statuses[1] >= 500, statuses[2]) == (400, True, 415)
    [found] = content["model_stats"]
    assert found["inference_stats"]["fail"]["count"] == 2
    assert found["inference_stats"]["fail"]["ns"] > 0
    assert found["inference_stats"]["success"]["count"] == 0
