from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shared.manifest import Manifest
from shared.model_store import ModelStore
from tests.support.estimators import CASES, Case
from training.exporter import export

Publish = Callable[..., Manifest]


@cache
def fitted(name: str) -> Case:
    return CASES[name]()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[ModelStore, Manifest]]:
    """The version that export makes of one of the cases; do not change it."""
    store = ModelStore(tmp_path_factory.mktemp("models"))

    @cache
    def get(case_name: str) -> tuple[ModelStore, Manifest]:
        case = fitted(case_name)
        return store, export(case.estimator, case.X, case.y, store=store, name=case_name.replace(" ", "-"), scores={})

    return get


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def publish(store: ModelStore) -> Publish:
    """Exports a version of a model into a store of this test."""

    def publish(name: str, version: str = "v1", estimator: Any = None, rows: Any = None, **options: Any) -> Manifest:
        case = fitted("logistic regression")
        return export(
            case.estimator if estimator is None else estimator,
            case.X if rows is None else rows,
            store=store,
            name=name,
            version=version,
            scores={},
            **options,
        )

    return publish


def rewrite(store: ModelStore, manifest: Manifest, **changes: Any) -> Manifest:
    """Replace a stored manifest by one with changes."""
    changed = manifest.model_copy(update=changes)
    path = Path(store.location(manifest.name, manifest.version)) / "manifest.json"
    path.write_text(changed.model_dump_json())
    return changed


def rows_of(manifest: Manifest) -> list[list[Any]]:
    return [sample.row for sample in manifest.samples]
