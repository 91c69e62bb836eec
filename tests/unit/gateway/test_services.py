from pathlib import Path
from typing import Any

import pytest

from gateway import services
from gateway.services import REPLY_BYTES, Services
from gateway.settings import GatewaySettings
from headrace.errors import ManifestInvalid
from headrace.models.manifest import Manifest
from tests.support.manifests import classifier, stored


@pytest.mark.parametrize(
    ("manifest", "rows"),
    [
        (classifier(), (8192, 8192)),
        (classifier(classes=[f"class {at}" for at in range(300)]), (50, REPLY_BYTES // 300 // 20)),
    ],
    ids=["two classes", "many classes"],
)
def test_the_reply_to_a_batch_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest: Manifest, rows: tuple[int, int]
) -> None:
    chosen: list[GatewaySettings] = []
    monkeypatch.setattr(services, "Batcher", lambda *args: chosen.append(args[-1]))
    settings: dict[str, Any] = {"default_model": "sticks", "redis_url": "redis://127.0.0.1:1"}

    Services(GatewaySettings(**settings), stored(tmp_path, manifest)).catalog.load()

    least, most = rows
    assert least <= chosen[0].batch_rows_max <= most


def test_a_mistake_that_the_manifest_does_not_show_makes_the_model_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(services, "RowParser", mistaken)
    settings: dict[str, Any] = {"default_model": "sticks", "redis_url": "redis://127.0.0.1:1"}
    catalog = Services(GatewaySettings(**settings), stored(tmp_path, classifier())).catalog

    with pytest.raises(ManifestInvalid, match="OverflowError while its manifest was used"):
        catalog.load()
