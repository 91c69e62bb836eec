"""Descriptions of a model with many features: each is written once, in a thread, however many callers ask for it."""

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from google.protobuf.json_format import MessageToDict

from gateway.api import models as api_models
from gateway.app import create_app
from gateway.catalog.row_parser import RowParser
from gateway.catalog.served_model import ServedModel
from gateway.oip import models
from gateway.oip.infer import InferStatistics
from gateway.rpc import methods
from gateway.rpc.messages import INFERENCE, message_class
from gateway.services import Services
from gateway.settings import GatewaySettings
from headrace.models.store import ModelStore
from tests.support.connections import started
from tests.support.coroutines import run, until
from tests.support.manifests import feature, mixed, stored, text

CALLERS = 20


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    features = [text("colour"), *(feature(f"feature_{number:04}") for number in range(1_000))]
    return stored(tmp_path, mixed(*features))


@pytest.fixture
def settings(store: ModelStore) -> GatewaySettings:
    return GatewaySettings(redis_url="redis://127.0.0.1:1/0", model_store=store.root, default_model="sticks")


class Calls:
    """The calls of functions that write descriptions, and of those the ones on the event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number: Counter[str] = Counter()
        self.on_the_loop: list[str] = []
        self._monkeypatch = monkeypatch
        self._loop_thread = threading.get_ident()

    def watch(self, module: Any, name: str) -> None:
        """Note the calls of a function of a module."""
        function = getattr(module, name)

        def noted(*arguments: Any) -> Any:
            self.number[name] += 1
            if threading.get_ident() == self._loop_thread:
                self.on_the_loop.append(name)
            return function(*arguments)

        self._monkeypatch.setattr(module, name, noted)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.mark.parametrize(
    ("path", "module", "name"),
    [
        ("/v2/models/sticks", models, "model_tensors"),
        ("/v2/models/sticks/config", models, "model_config"),
        ("/models/sticks/card", api_models, "public_card"),
    ],
)
def test_http_answers_are_written_once(
    settings: GatewaySettings, calls: Calls, path: str, module: Any, name: str
) -> None:
    calls.watch(module, name)
    app = create_app(settings)

    async def asking() -> list[httpx.Response]:
        async with started(app) as client:
            # Another address is no other page.
            hosts = [{"Host": f"host{number}"} for number in range(CALLERS)]
            return await asyncio.gather(*(client.get(path, headers=each) for each in hosts))

    answers = run(asking())
    assert {answer.status_code for answer in answers} == {200}
    assert calls.number == {name: 1}
    assert not calls.on_the_loop


@pytest.mark.parametrize(("method", "name"), [("ModelMetadata", "model_tensors"), ("ModelConfig", "model_config")])
def test_messages_are_written_once(
    settings: GatewaySettings, store: ModelStore, calls: Calls, method: str, name: str
) -> None:
    calls.watch(methods, name)
    services = Services(settings, store)
    services.catalog.load()
    asked = methods.methods_of(services, InferStatistics())[f"/{methods.SERVICE}/{method}"]
    message = message_class(INFERENCE, f"{method}Request")(name="sticks").SerializeToString()

    async def asking() -> list[bytes]:
        return await asyncio.gather(*(asked.answer(message, str(number)) for number in range(CALLERS)))

    [answer] = {*run(asking())}
    assert calls.number == {name: 1}
    assert not calls.on_the_loop
    found = MessageToDict(message_class(INFERENCE, f"{method}Response").FromString(answer))
    found = found.get("config", found)
    assert found["name"] == "sticks" and found["platform"] == "scikit-learn"
    assert len(found.get("inputs", found.get("input"))) == 1_001


def test_versions_are_those_of_now(settings: GatewaySettings, store: ModelStore) -> None:
    stored(Path(store.root), mixed(text("colour"), version="v2"))
    store.set_alias("sticks", "old", "v1")
    app = create_app(settings)

    async def asking() -> tuple[dict[str, Any], dict[str, Any]]:
        async with started(app) as client:

            async def described() -> dict[str, Any]:
                found: dict[str, Any] = (await client.get("/v2/models/sticks/versions/v2")).json()
                return found

            async def has_changed() -> bool:
                return await described() != before

            before = await described()
            (Path(store.root) / "sticks" / "aliases" / "old.json").unlink()
            await until("other versions", has_changed)
            return before, await described()

    before, after = run(asking())
    assert [*before] == ["name", "versions", "platform", "inputs", "outputs"]
    assert (before["versions"], after["versions"]) == (["v1", "v2"], ["v2"])
    assert {**before, "versions": None} == {**after, "versions": None}


@pytest.mark.parametrize("body", ["[1]", '{"data": [1]}', '{"instances": [[1]]}', "{}", '{"instances": [{}]}'])
@pytest.mark.parametrize("path", ["/models/sticks/predict", "/models/sticks/jobs", "/v1/models/sticks:predict"])
def test_a_few_bytes_get_no_long_error(settings: GatewaySettings, path: str, body: str) -> None:
    app = create_app(settings)

    async def asking() -> httpx.Response:
        async with started(app) as client:
            return await client.post(path, content=body, headers={"Content-Type": "application/json"})

    refused = run(asking())
    assert refused.status_code == 422
    assert len(refused.content) < 10_000


@pytest.mark.parametrize(
    ("width", "characters", "shown"), [(2, 1, True), (100, 10, True), (101, 1, False), (20, 1_000, False)]
)
def test_errors_show_a_short_example_only(width: int, characters: int, shown: bool) -> None:
    features = [text(f"feature_{number}", ["x" * characters]) for number in range(width)]
    manifest = mixed(*features)
    manifest = manifest.model_copy(update={"samples": []})
    served = ServedModel(manifest, RowParser(manifest, 3), Mock())

    expected = {"instances": [{each.name: "x" * characters for each in features}]}
    assert served.example == (expected if shown else None)
