import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakeredis import FakeRedis, FakeServer

from headrace.errors import StoreUnavailable
from headrace.models.alias import LATEST, Trial
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.queue import keys
from shared.queue.heartbeat import ChildHeartbeat
from tests.support.clock import Clock
from tests.unit.worker.conftest import Publish
from tests.unit.worker.metrics.test_worker import samples
from worker.metrics.worker import WorkerMetrics
from worker.model import refresher as module
from worker.model.cache import PredictorCache
from worker.model.refresher import EVICTION_COOLDOWN_SECONDS, IDLE_SECONDS, Refresher

GIGABYTE = 1_000_000_000
PATIENCE_SECONDS = 60.0
NAME = "worker1@here/slot0"


class Bench:
    """A refresher with its store, its predictors and the Redis that gets its heartbeats."""

    def __init__(self, store: ModelStore, broker: FakeServer, budget_bytes: int = GIGABYTE) -> None:
        self.redis: Any = FakeRedis(server=broker)
        self.store = store
        self.clock = Clock()
        self.metrics = WorkerMetrics()
        self.cache = PredictorCache(store, budget_bytes, clock=self.clock)
        self.loads: list[str] = []
        """Every load, also of versions that were loaded before."""
        self.cache.on_load = self._note
        self.refresher = Refresher(NAME, "redis://", store, self.cache, self.metrics.mark_loaded, clock=self.clock)

    def _note(self, manifest: Manifest | None, seconds: float | None) -> None:
        if manifest and seconds is not None:
            self.loads.append(f"{manifest.name} {manifest.version}")

    def loaded(self) -> list[str]:
        return sorted(map(str, self.cache.loaded()))

    def heartbeat(self) -> ChildHeartbeat:
        return ChildHeartbeat.model_validate_json(self.redis.hget(keys.CHILDREN, NAME))

    def has_heartbeat(self) -> bool:
        return bool(self.redis.hexists(keys.CHILDREN, NAME))


@pytest.fixture
def bench(store: ModelStore, broker: FakeServer) -> Bench:
    return Bench(store, broker)


def artifact_of(store: ModelStore, manifest: Manifest) -> Path:
    return Path(store.location(manifest.name, manifest.version)) / manifest.artifact.file


# --- refreshing


def test_what_aliases_of_a_loaded_model_name_is_loaded_before_anyone_asks(bench: Bench, publish: Publish) -> None:
    publish("m", "v1")
    bench.cache.get("m", "v1")
    publish("m", "v2")
    publish("m", "v3", alias="staging")
    publish("m", "v4", alias=None)

    bench.refresher.refresh()

    assert bench.loaded() == ["m v1", "m v2", "m v3"]
    bench.refresher.send_heartbeat()
    since = samples(bench.metrics.model_loaded)
    assert since["inference_model_loaded_timestamp_seconds/m/v2"] == pytest.approx(time.time(), abs=60)
    bench.refresher.refresh()
    assert bench.loads == ["m v1", "m v2", "m v3"]


def test_versions_on_trial_are_loaded_too(bench: Bench, publish: Publish) -> None:
    for version in ("v1", "v2", "v3"):
        publish("m", version, alias=LATEST if version == "v1" else None)
    bench.cache.get("m", "v1")
    bench.store.set_trials("m", LATEST, split=Trial(version="v2", share=0.1), shadow=Trial(version="v3", share=0.5))

    bench.refresher.refresh()

    assert bench.loaded() == ["m v1", "m v2", "m v3"]


def test_models_that_nobody_asked_for_are_left_in_the_store(bench: Bench, publish: Publish) -> None:
    publish("m")
    publish("other")
    bench.cache.get("m", "v1")

    bench.refresher.refresh()

    assert bench.loaded() == ["m v1"]


def test_what_no_alias_names_goes_once_nobody_uses_it(bench: Bench, publish: Publish) -> None:
    publish("m", "v1")
    bench.cache.get("m", "v1")
    publish("m", "v2")
    bench.refresher.refresh()

    bench.clock.seconds += IDLE_SECONDS - 1
    bench.cache.get("m", "v1")
    bench.clock.seconds += IDLE_SECONDS
    bench.refresher.refresh()
    assert bench.loaded() == ["m v1", "m v2"], "it was used in between"

    bench.clock.seconds += 1
    bench.refresher.refresh()
    assert bench.loaded() == ["m v2"], "a version that an alias names stays, used or not"


def test_what_went_because_no_alias_named_it_comes_back_at_once(bench: Bench, publish: Publish) -> None:
    publish("m", "v1")
    bench.cache.get("m", "v1")
    publish("m", "v2")
    bench.refresher.refresh()
    bench.clock.seconds += IDLE_SECONDS + 1
    bench.refresher.refresh()
    assert bench.loaded() == ["m v2"]

    bench.store.set_alias("m", LATEST, "v1")
    bench.refresher.refresh()

    assert "m v1" in bench.loaded()


def test_an_alias_that_cannot_be_read_holds_up_no_other_and_drops_nothing(
    bench: Bench, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("m", "other"):
        publish(name, "v1", alias="production")
        bench.cache.get(name, "v1")
    alias = Path(bench.store.root, "m", "aliases", "production.json")
    alias.unlink()
    os.mkfifo(alias)
    publish("m", "v2")
    publish("other", "v2")

    for _ in range(2):
        bench.clock.seconds += IDLE_SECONDS + 1
        bench.refresher.refresh()

    assert bench.loaded() == ["m v1", "m v2", "other v1", "other v2"]
    assert caplog.messages.count(f"model store: {alias}: it is not a regular file") == 1


def test_the_old_version_stays_while_the_new_one_is_refused(bench: Bench, publish: Publish) -> None:
    publish("m", "v1")
    bench.cache.get("m", "v1")
    artifact_of(bench.store, publish("m", "v2")).write_bytes(b"damaged")
    bench.clock.seconds += IDLE_SECONDS + 1
    bench.refresher.refresh()
    assert bench.loaded() == ["m v1"]

    publish("m", "v3")
    bench.refresher.refresh()
    assert bench.loaded() == ["m v3"]


# --- versions that do not fit into memory together


def bench_for_one(store: ModelStore, broker: FakeServer, publish: Publish) -> Bench:
    """Return a bench with room for one version, and aliases that name two."""
    publish("m", "v1", alias="stable")
    publish("m", "v2")
    size_bytes = PredictorCache(store, GIGABYTE).get("m", "v1").size_bytes
    return Bench(store, broker, int(1.5 * size_bytes))


def test_versions_that_do_not_fit_in_together_do_not_take_turns_every_second(
    store: ModelStore, broker: FakeServer, publish: Publish
) -> None:
    bench = bench_for_one(store, broker, publish)
    bench.cache.get("m", "v1")
    for _ in range(int(EVICTION_COOLDOWN_SECONDS) - 1):
        bench.refresher.refresh()
        bench.clock.seconds += 1

    assert bench.loads == ["m v1", "m v2"]

    bench.clock.seconds += 2
    bench.refresher.refresh()
    bench.refresher.refresh()

    assert bench.loads == ["m v1", "m v2", "m v1"], "there may be room by now"


def test_what_made_room_for_a_caller_is_not_fetched_back(
    store: ModelStore, broker: FakeServer, publish: Publish
) -> None:
    bench = bench_for_one(store, broker, publish)
    bench.cache.get("m", "v2")
    bench.store.set_alias("m", "stable", "v2")
    bench.refresher.refresh()

    bench.cache.get("m", "v1")
    for _ in range(10):
        bench.refresher.refresh()
        bench.clock.seconds += 1

    assert bench.loads == ["m v2", "m v1"]


def test_a_version_that_is_refused_after_others_made_room_is_not_tried_again_soon(
    store: ModelStore, broker: FakeServer, publish: Publish
) -> None:
    bench = bench_for_one(store, broker, publish)
    bench.cache.get("m", "v1")
    artifact = artifact_of(store, store.manifest("m", "v2"))
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"?")
    asked: list[Any] = []
    bench.cache.on_load = lambda *load: asked.append(load)
    # The manifest announces the size that the version would have in memory.
    manifest = store.manifest("m", "v2")
    size_bytes = bench.cache.get("m", "v1").size_bytes
    sha256 = hashlib.sha256(artifact.read_bytes()).hexdigest()
    claims = manifest.artifact.model_copy(update={"size_bytes": size_bytes, "sha256": sha256})
    grown = manifest.model_copy(update={"artifact": claims})
    (artifact.parent / "manifest.json").write_text(grown.model_dump_json())

    for _ in range(int(EVICTION_COOLDOWN_SECONDS) - 1):
        bench.refresher.refresh()
        # A caller needs the other version, and gets it.
        bench.cache.get("m", "v1")
        bench.clock.seconds += 1

    assert [seconds is None for _, seconds in asked] == [True, False]


# --- heartbeats


def test_a_heartbeat_holds_the_loaded_versions_and_the_refused_with_reasons(bench: Bench, publish: Publish) -> None:
    publish("m", "v1")
    publish("another")
    bench.cache.get("m", "v1")
    bench.cache.get("another", "v1")
    artifact_of(bench.store, publish("m", "v2")).write_bytes(b"?")

    bench.refresher.refresh()
    bench.refresher.send_heartbeat()

    heartbeat = bench.heartbeat()
    assert heartbeat.loaded == ["another v1", "m v1"]
    assert list(heartbeat.refused) == ["m v2"]
    assert "SHA-256" in heartbeat.refused["m v2"]
    assert heartbeat.at == pytest.approx(time.time(), abs=5)


def test_a_refusal_is_taken_back_when_the_version_could_be_loaded(bench: Bench, publish: Publish) -> None:
    publish("m", "v1")
    bench.cache.get("m", "v1")
    artifact = artifact_of(bench.store, publish("m", "v2"))
    content = artifact.read_bytes()
    artifact.write_bytes(b"?")
    bench.refresher.refresh()
    artifact.write_bytes(content)

    bench.clock.seconds += 11
    bench.refresher.refresh()
    bench.refresher.send_heartbeat()

    assert bench.heartbeat().loaded == ["m v1", "m v2"]
    assert bench.heartbeat().refused == {}


def test_without_a_broker_no_heartbeat_is_sent_and_nothing_ends(
    bench: Bench, broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker.connected = False

    with caplog.at_level(logging.WARNING):
        bench.refresher.send_heartbeat()
    assert caplog.messages == ["heartbeat not sent: ConnectionError"]

    broker.connected = True
    bench.refresher.send_heartbeat()
    assert bench.has_heartbeat()


# --- the thread


@pytest.fixture
def running(bench: Bench, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A running refresher with one model, and heartbeats every 5 ms."""
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.005)
    monkeypatch.setattr(ModelStore, "look_seconds", 0.0)
    publish("m", "v1")
    bench.cache.get("m", "v1")
    bench.refresher.start()
    yield bench
    bench.refresher.stop()
    assert not bench.refresher.is_alive()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.005)


def test_it_follows_the_store_by_itself(running: Bench, publish: Publish) -> None:
    until(lambda: running.has_heartbeat() and running.heartbeat().loaded == ["m v1"])

    publish("m", "v2")

    until(lambda: running.heartbeat().loaded == ["m v1", "m v2"])
    assert running.refresher.daemon, "a child that ends does not wait for the thread"


def test_heartbeats_go_on_during_a_load(running: Bench, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    until(running.has_heartbeat)
    loading, may_end = threading.Event(), threading.Event()

    def slow_load(*_: object) -> None:
        loading.set()
        may_end.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(running.cache, "follow", slow_load)
    publish("m", "v2")
    assert loading.wait(PATIENCE_SECONDS)

    running.redis.hdel(keys.CHILDREN, running.refresher._child_name)

    until(lambda: running.has_heartbeat() and running.heartbeat().loaded == ["m v1"])
    may_end.set()


def test_it_survives_a_heartbeat_that_can_not_be_made(
    running: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = threading.Event()

    def fails() -> Any:
        failed.set()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(running.cache, "refused", fails)
        assert failed.wait(PATIENCE_SECONDS)
    running.redis.delete(keys.CHILDREN)

    until(running.has_heartbeat)
    assert "a heartbeat failed" in caplog.text


@pytest.mark.parametrize("error", [StoreUnavailable("no answer"), OSError("disk"), ZeroDivisionError()])
def test_it_survives_a_store_that_fails_and_sends_heartbeats_meanwhile(
    running: Bench,
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    failed = threading.Event()

    def fails(*_: Any) -> Any:
        failed.set()
        # A new one each time: the traceback of one that is raised again grows, and takes ever longer to log.
        raise type(error)(*error.args)

    with monkeypatch.context() as patch:
        patch.setattr(ModelStore, "alias_records", fails)
        assert failed.wait(PATIENCE_SECONDS)
        running.redis.delete(keys.CHILDREN)
        until(running.has_heartbeat)
    publish("m", "v2")

    until(lambda: running.heartbeat().loaded == ["m v1", "m v2"])
    expected = (
        "model store: no answer"
        if isinstance(error, StoreUnavailable)
        else "refreshing the models failed; it will be tried again"
    )
    assert expected in caplog.messages


def test_it_survives_a_broker_that_goes_and_comes_back(running: Bench, broker: FakeServer, publish: Publish) -> None:
    until(running.has_heartbeat)
    broker.connected = False
    publish("m", "v2")
    until(lambda: running.loaded() == ["m v1", "m v2"])

    broker.connected = True

    until(lambda: running.heartbeat().loaded == ["m v1", "m v2"])


def test_a_child_that_ends_removes_its_heartbeat_and_no_other(running: Bench) -> None:
    running.redis.hset(keys.CHILDREN, "another/slot0", ChildHeartbeat(at=0).model_dump_json())
    until(running.has_heartbeat)

    running.refresher.stop()

    assert not running.refresher.is_alive()
    assert running.redis.hkeys(keys.CHILDREN) == [b"another/slot0"]


def test_a_child_that_ends_while_the_broker_is_away_just_ends(
    running: Bench, broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    until(running.has_heartbeat)
    broker.connected = False

    with caplog.at_level(logging.INFO):
        running.refresher.stop()

    assert not running.refresher.is_alive()
    assert "heartbeat not removed: ConnectionError" in caplog.messages
