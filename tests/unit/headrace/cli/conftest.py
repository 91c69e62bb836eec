import pytest

from headrace.models.store import ModelStore
from tests.unit.headrace.cli.versions import add


@pytest.fixture(autouse=True)
def environment(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_STORE", store.root)
    for name in ("MODEL_PUBLIC_KEY", "SKOPS_TRUSTED_TYPES", "TRUSTED_MODULES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def filled(store: ModelStore) -> ModelStore:
    """Three versions; production was v1 and is v2, latest is v3."""
    for day in (1, 2, 3):
        add(store, f"v{day}", created_at=f"2026-11-0{day}T12:00:00+00:00", training_rows=10**day)
        store.set_alias("iris", "latest", f"v{day}")
    store.set_alias("iris", "production", "v1")
    store.set_alias("iris", "production", "v2")
    return store
