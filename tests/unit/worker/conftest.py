from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakeredis import FakeRedis, FakeServer

from shared.model_store import ModelStore
from tests.support.puppet import Act, Puppet
from tests.unit.worker.estimators import Labels, Numbers
from training.export import export
from worker.settings import WorkerSettings

ROWS = np.array([[-1.0, Act.ANSWER], [1.0, Act.ANSWER]] * 5)
NAMES = ["value", "act"]


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in WorkerSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Three models of the features value and act: `puppet` (classes), `labels` (without shares), `numbers`."""
    store = ModelStore(tmp_path / "models")
    estimators: dict[str, Any] = {"puppet": Puppet(), "labels": Labels(), "numbers": Numbers()}
    for name, estimator in estimators.items():
        fitted = estimator.fit(ROWS, np.array(["low", "high"] * 5))
        export(fitted, ROWS, store=store, name=name, version="v1", feature_names=NAMES, scores={})
    return store


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A Redis in memory, which the worker's clients find at every address; with `connected = False` it is gone."""
    server = FakeServer()

    def connect(redis_url: str, retries: int) -> FakeRedis:
        return FakeRedis(server=server)

    for module in ("worker.child", "worker.lost", "worker.announcer"):
        monkeypatch.setattr(f"{module}.connect", connect)
    yield server
    server.connected = True
