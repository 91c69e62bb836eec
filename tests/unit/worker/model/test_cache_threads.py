import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.unit.worker.conftest import Publish
from worker.model.cache import PredictorCache
from worker.model.predictor import Predictor

PATIENCE_SECONDS = 60.0


@pytest.fixture
def cache(store: ModelStore) -> PredictorCache:
    return PredictorCache(store, 1_000_000_000)


def labels(cache: PredictorCache) -> list[str]:
    return [str(predictor) for predictor in cache.loaded()]


class SlowLoads:
    """A patch of `Predictor.load` that waits for the event `go`, and counts the loads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.running = 0
        self.most = 0
        self.started, self.go = threading.Semaphore(0), threading.Event()
        load = Predictor.load

        def slow(store: ModelStore, manifest: Manifest, *options: Any) -> Predictor:
            self.begun.append(manifest.version)
            self.running += 1
            self.most = max(self.most, self.running)
            self.started.release()
            assert self.go.wait(PATIENCE_SECONDS)
            self.running -= 1
            return load(store, manifest, *options)

        monkeypatch.setattr(Predictor, "load", slow)


def in_threads(*functions: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda f=each: results.append(f()), daemon=True) for each in functions]
    for thread in threads:
        thread.start()
    return threads, results


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_a_lookup_does_not_wait_for_a_load(
    cache: PredictorCache, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m", "v1")
    publish("m", "v2")
    loaded = cache.get("m", "v1")
    slow = SlowLoads(monkeypatch)
    threads, results = in_threads(lambda: cache.get("m", "v2"))
    assert slow.started.acquire(timeout=PATIENCE_SECONDS)

    assert cache.get("m", "v1") is loaded
    assert labels(cache) == ["m v1"]
    cache.drop("m", "v1")

    slow.go.set()
    join(threads)
    assert [str(each) for each in results] == ["m v2"]


def test_many_threads_get_one_predictor_from_one_load(
    cache: PredictorCache, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m")
    slow = SlowLoads(monkeypatch)
    threads, results = in_threads(*[lambda: cache.get("m", "v1")] * 8)
    assert slow.started.acquire(timeout=PATIENCE_SECONDS)
    slow.go.set()
    join(threads)

    assert slow.begun == ["v1"]
    assert len(results) == 8
    assert len(set(map(id, results))) == 1


def test_one_load_runs_at_a_time(cache: PredictorCache, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("v1", "v2", "v3"):
        publish("m", version)
    slow = SlowLoads(monkeypatch)
    slow.go.set()
    threads, _ = in_threads(*[lambda v=version: cache.get("m", v) for version in ("v1", "v2", "v3")])
    join(threads)

    assert sorted(slow.begun) == ["v1", "v2", "v3"]
    assert slow.most == 1
