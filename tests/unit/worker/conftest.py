import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakeredis import FakeRedis, FakeServer

from headrace.exporting.exporter import export
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.exported import exported as exported
from tests.support.exported import fitted
from tests.support.puppet import Act, Puppet
from tests.unit.worker.estimators import Labels, Numbers
from worker.model import bisection, examination
from worker.model.allow_list import AllowList
from worker.settings import WorkerSettings

Publish = Callable[..., Manifest]

OURS = AllowList(modules=frozenset(["tests"]))
"""For estimators that are made for tests."""

PUPPET_ROWS = np.array([[-1.0, Act.ANSWER], [1.0, Act.ANSWER]] * 5)


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in WorkerSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


@pytest.fixture(autouse=True)
def patient_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search for bad rows and columns go on for longer than a busy machine takes."""
    for module in (bisection, examination):
        monkeypatch.setattr(module, "SECONDS_MAX", 60.0)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A Redis in memory that the worker's clients find at every address; with `connected = False` it is gone."""
    server = FakeServer()
    # Two threads that connect first, at the same time, would get a database each.
    _ = server.dbs[0]

    def connect(redis_url: str, retries: int) -> FakeRedis:
        return FakeRedis(server=server)

    for module in (
        "worker.execution.batch_runner",
        "worker.consumer.crashes",
        "worker.consumer.heartbeat",
        "worker.consumer.remote_control",
        "worker.model.refresher",
        "worker.consumer.watchdog",
    ):
        monkeypatch.setattr(f"{module}.connect", connect)
    yield server
    server.connected = True


@pytest.fixture(scope="session")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("puppets")
    store = ModelStore(folder)
    publish_puppet(store, "puppet")
    publish_puppet(store, "labels", estimator=Labels())
    publish_puppet(store, "numbers", estimator=Numbers())
    return folder


@pytest.fixture
def puppet_store(puppets: Path, tmp_path: Path) -> ModelStore:
    """Three models of the features value and act: `puppet` (classes), `labels` (without probabilities), `numbers`."""
    return ModelStore(shutil.copytree(puppets, tmp_path / "puppets"))


def publish_puppet(store: ModelStore, name: str, version: str = "v1", estimator: Any = None) -> Manifest:
    fitted = (estimator or Puppet()).fit(PUPPET_ROWS, np.array(["low", "high"] * 5))
    return export(
        fitted,
        PUPPET_ROWS,
        store=store,
        name=name,
        version=version,
        feature_names=["value", "act"],
        scores={},
        extra_modules=["tests"],
    ).manifest


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def publish(store: ModelStore) -> Publish:
    """A function that exports a version of a model into a store of this test, as joblib by default."""

    def publish(name: str, version: str = "v1", estimator: Any = None, rows: Any = None, **options: Any) -> Manifest:
        case = fitted("logistic regression")
        return export(
            case.estimator if estimator is None else estimator,
            case.X if rows is None else rows,
            store=store,
            name=name,
            version=version,
            scores={},
            **{"format": "joblib", **options},
        ).manifest

    return publish


def rewrite(store: ModelStore, manifest: Manifest, **changes: Any) -> Manifest:
    """Replace a stored manifest by one with changes."""
    changed = manifest.model_copy(update=changes)
    path = Path(store.location(manifest.name, manifest.version)) / "manifest.json"
    path.write_text(changed.model_dump_json())
    return changed


def rows_of(manifest: Manifest) -> list[list[Any]]:
    return [sample.row for sample in manifest.samples]
