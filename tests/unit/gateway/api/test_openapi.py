import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.api import openapi
from gateway.api.openapi import OpenApiDocument
from gateway.app import create_app
from gateway.catalog.catalog import Catalog
from gateway.services import Services
from gateway.settings import GatewaySettings
from tests.support.manifests import classifier, stored


def test_the_document_is_written_once_for_each_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"default_model": "sticks", "redis_url": "redis://127.0.0.1:1"}
    store = stored(tmp_path, classifier())
    services = Services(GatewaySettings(**settings, model_store=str(tmp_path)), store)
    services.catalog.load()
    app = create_app(GatewaySettings(**settings, model_store=str(tmp_path)))
    written: list[object] = []
    write = openapi.openapi_document

    def noted(app: Any, services: Services, served: Any) -> dict[str, Any]:
        written.append(served)
        return write(app, services, served)

    monkeypatch.setattr(openapi, "openapi_document", noted)
    document = OpenApiDocument(app, services)

    async def asking() -> list[bytes]:
        answers = await asyncio.gather(*(document.json() for _ in range(5)))
        monkeypatch.setattr(Catalog, "default", other)
        return [*answers, await document.json()]

    first, other = services.catalog.default, copy.copy(services.catalog.default)
    answers = asyncio.run(asking())

    assert len(set(answers)) == 1
    assert "/predict" in json.loads(answers[0])["paths"]
    assert written == [first, other]
