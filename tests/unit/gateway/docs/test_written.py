import asyncio
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.catalog.served_model import ServedModel
from gateway.docs import written
from gateway.docs.written import WrittenDocuments
from gateway.services import Services
from gateway.settings import GatewaySettings
from tests.support.manifests import classifier, stored


@pytest.fixture
def versions(tmp_path: Path) -> list[ServedModel]:
    """Three versions in memory."""
    store = stored(tmp_path, classifier())
    settings: dict[str, Any] = {"default_model": "sticks", "redis_url": "redis://127.0.0.1:1"}
    services = Services(GatewaySettings(**settings, model_store=str(tmp_path)), store)
    return [services.catalog._make(classifier(version=f"v{number}")) for number in range(3)]


def document(served: ServedModel) -> dict[str, Any]:
    return {"of": served.manifest.version}


def test_a_document_is_written_once_for_each_version(versions: list[ServedModel]) -> None:
    described: list[ServedModel] = []

    def describe(served: ServedModel) -> dict[str, Any]:
        described.append(served)
        return document(served)

    documents = WrittenDocuments(describe)

    async def asking() -> list[bytes]:
        answers = await asyncio.gather(*(documents.json(versions[0], str(number)) for number in range(5)))
        return [*answers, await documents.json(versions[1]), await documents.json(versions[0])]

    answers = asyncio.run(asking())
    assert [json.loads(answer)["of"] for answer in answers] == [*["v0"] * 5, "v1", "v0"]
    assert described == versions[:2]


def test_the_first_written_make_room(versions: list[ServedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    documents = WrittenDocuments(document)
    monkeypatch.setattr(written, "KEPT_BYTES", 2 * len(orjson.dumps(document(versions[0]))))

    async def asking() -> None:
        for served in versions:
            await documents.json(served)

    asyncio.run(asking())
    assert [*documents._kept] == versions[1:]


def test_documents_go_with_their_versions(versions: list[ServedModel]) -> None:
    documents = WrittenDocuments(document)
    asyncio.run(documents.json(versions.pop()))
    assert not documents._kept
