import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from headrace.errors import ModelError, ModelNotFound, StoreUnavailable
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.clock import Clock
from tests.support.forks import in_paused_child
from tests.unit.worker.conftest import Publish, rewrite
from worker.model.cache import REFUSALS_MAX, RETRY_SECONDS, TIME_LIMIT_RETRY_SECONDS, PredictorCache
from worker.model.predictor import Predictor

GIGABYTE = 1_000_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(store: ModelStore, clock: Clock) -> PredictorCache:
    return PredictorCache(store, GIGABYTE, clock=clock)


def labels(cache: PredictorCache) -> list[str]:
    return [str(predictor) for predictor in cache.loaded()]


def spoil(store: ModelStore, manifest: Manifest) -> Callable[[], None]:
    """Damage an artifact, and return a function that repairs it."""
    path = Path(store.location(manifest.name, manifest.version)) / manifest.artifact.file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")

    def repair() -> None:
        path.write_bytes(content)

    return repair


def test_a_version_is_loaded_on_demand_and_once(cache: PredictorCache, publish: Publish) -> None:
    publish("m")
    assert cache.loaded() == []

    first = cache.get("m", "v1")

    assert cache.get("m", "v1") is first
    assert labels(cache) == ["m v1"]
    assert first.predict([[5.0, 3.0, 1.5, 0.2]]).predictions == ["setosa"]


def test_an_alias_is_no_version(cache: PredictorCache, publish: Publish) -> None:
    publish("m")

    with pytest.raises(ModelNotFound, match="'latest' is an alias"):
        cache.get("m", "latest")


def test_what_the_store_does_not_have_is_refused(cache: PredictorCache, publish: Publish) -> None:
    publish("m")

    for name, version in [("m", "v2"), ("other", "v1"), ("../m", "v1")]:
        with pytest.raises(ModelError):
            cache.get(name, version)

    assert cache.loaded() == []


def test_the_least_recently_used_goes_first(store: ModelStore, publish: Publish) -> None:
    for version in ("v1", "v2", "v3"):
        publish("m", version)
    size_bytes = PredictorCache(store, GIGABYTE).get("m", "v1").size_bytes
    cache = PredictorCache(store, int(2.5 * size_bytes))
    cache.get("m", "v1")
    cache.get("m", "v2")
    cache.get("m", "v1")

    cache.get("m", "v3")

    assert labels(cache) == ["m v1", "m v3"]
    assert sum(predictor.size_bytes for predictor in cache.loaded()) <= 2.5 * size_bytes
    cache.get("m", "v2")
    assert labels(cache) == ["m v3", "m v2"]


def test_the_manifest_counts_too(store: ModelStore, publish: Publish) -> None:
    manifest = publish("m")
    plain = PredictorCache(store, GIGABYTE).get("m", "v1")
    rewrite(store, manifest, description="x" * 100_000)

    assert PredictorCache(store, GIGABYTE).get("m", "v1").size_bytes > plain.size_bytes + 100_000


def test_a_model_larger_than_the_budget_is_refused_and_nothing_is_dropped_for_it(
    store: ModelStore, publish: Publish
) -> None:
    publish("small")
    manifest = publish("large")
    artifact = manifest.artifact.model_copy(update={"size_bytes": GIGABYTE})
    rewrite(store, manifest, artifact=artifact)
    cache = PredictorCache(store, 1_000_000)
    cache.get("small", "v1")

    with pytest.raises(ModelError, match=r"large v1: takes about 1000.0 MB, more than WORKER_MEMORY_BUDGET_BYTES"):
        cache.get("large", "v1")

    assert labels(cache) == ["small v1"]


@pytest.mark.parametrize("content", [None, b"something else"], ids=["it is missing", "another digest"])
def test_a_version_that_is_not_what_it_claims_drops_no_other(
    store: ModelStore, publish: Publish, content: bytes | None
) -> None:
    publish("kept")
    manifest = publish("claims")
    rewrite(store, manifest, artifact=manifest.artifact.model_copy(update={"size_bytes": GIGABYTE}))
    artifact = Path(store.location("claims", "v1")) / manifest.artifact.file
    if content is None:
        artifact.unlink()
    else:
        artifact.write_bytes(content)
    cache = PredictorCache(store, GIGABYTE)
    cache.get("kept", "v1")

    with pytest.raises(ModelError):
        cache.get("claims", "v1")

    assert labels(cache) == ["kept v1"]


def test_a_load_that_the_time_limit_of_a_batch_ends_is_not_tried_again_at_once(
    cache: PredictorCache, publish: Publish, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m")

    def interrupted(*_: object) -> None:
        raise SoftTimeLimitExceeded

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "load", interrupted)
        with pytest.raises(SoftTimeLimitExceeded):
            cache.get("m", "v1")

    clock.seconds += TIME_LIMIT_RETRY_SECONDS - 1
    with pytest.raises(ModelError, match="m v1: the time limit of a batch ended its load"):
        cache.get("m", "v1")
    clock.seconds += 2
    assert str(cache.get("m", "v1")) == "m v1"


def test_a_mistake_that_the_manifest_does_not_show_refuses_the_version_alone(
    store: ModelStore, cache: PredictorCache, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = publish("spoilt")
    rewrite(store, manifest, features=[each.model_copy(update={"dtype": "float96"}) for each in manifest.features])
    publish("m")

    with pytest.raises(ModelError, match=r"^spoilt v1: TypeError while it was loaded$"):
        cache.get("spoilt", "v1")
    with pytest.raises(ModelError, match=r"^spoilt v1: TypeError while it was loaded$"):
        cache.follow("spoilt", "v1")

    assert str(cache.get("m", "v1")) == "m v1"
    assert cache.refused() == {("spoilt", "v1"): "spoilt v1: TypeError while it was loaded"}
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.exc_info is not None and vars(line)["private"]


def test_a_load_is_announced_once(
    store: ModelStore, publish: Publish, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker.model.cache")
    spoil(store, publish("m"))
    cache = PredictorCache(store, GIGABYTE, clock=clock, load_seconds=1000)

    for _ in range(3):
        with pytest.raises(ModelError):
            cache.get("m", "v1")
        clock.seconds += RETRY_SECONDS + 1

    assert caplog.messages.count("loading m v1, for at most 1000 s") == 1


def test_a_version_that_another_process_loads_first_is_loaded_later(cache: PredictorCache, publish: Publish) -> None:
    publish("m")

    def load(pause: Callable[[], None]) -> None:
        with cache._journal.first("m", "v1"):
            pause()

    with in_paused_child(load):
        cache.follow("m", "v1")
        assert cache.loaded() == []
    cache.follow("m", "v1")
    assert labels(cache) == ["m v1"]


def test_memory_is_freed_when_a_version_is_dropped(cache: PredictorCache, publish: Publish) -> None:
    publish("m")
    predictor = cache.get("m", "v1")
    predictor.predict([[5.0, 3.0, 1.5, 0.2]])
    estimator = weakref.ref(predictor._estimator)
    gc.disable()
    try:
        cache.drop("m", "v1")
        assert estimator() is not None  # a batch still runs with it
        del predictor
        assert estimator() is None
    finally:
        gc.enable()
    assert cache.loaded() == []


def test_memory_is_freed_when_a_version_makes_room(store: ModelStore, publish: Publish) -> None:
    publish("m", "v1")
    publish("m", "v2")
    cache = PredictorCache(store, int(1.5 * PredictorCache(store, GIGABYTE).get("m", "v1").size_bytes))
    estimator = weakref.ref(cache.get("m", "v1")._estimator)

    cache.get("m", "v2")

    assert estimator() is None


def test_a_refusal_is_remembered_for_ten_seconds(
    store: ModelStore, cache: PredictorCache, publish: Publish, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = spoil(store, publish("m"))
    loads: list[Manifest] = []
    load = Predictor.load

    def counting(store: ModelStore, manifest: Manifest, *options: Any) -> Predictor:
        loads.append(manifest)
        return load(store, manifest, *options)

    monkeypatch.setattr(Predictor, "load", counting)
    for _ in range(3):
        with pytest.raises(ModelError, match="SHA-256"):
            cache.get("m", "v1")
    assert len(loads) == 1
    assert list(cache.refused()) == [("m", "v1")]
    assert "SHA-256" in cache.refused()["m", "v1"]

    repair()
    clock.seconds += 9.9
    with pytest.raises(ModelError, match="SHA-256"):
        cache.get("m", "v1")
    clock.seconds += 0.2
    cache.get("m", "v1")
    assert len(loads) == 2
    assert cache.refused() == {}


def test_a_load_that_fails_slowly_takes_a_tenth_of_the_time(
    store: ModelStore, cache: PredictorCache, publish: Publish, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m")
    loads = 0

    def fail(*_: Any) -> Predictor:
        nonlocal loads
        loads += 1
        clock.seconds += 30
        raise ModelError("slowly")

    monkeypatch.setattr(Predictor, "load", fail)
    began_at = clock.seconds
    while clock.seconds < began_at + 3600:
        with pytest.raises(ModelError, match="slowly"):
            cache.get("m", "v1")
        clock.seconds += 1

    assert 10 <= loads <= 12


def test_dropping_forgets_a_refusal(store: ModelStore, cache: PredictorCache, publish: Publish) -> None:
    repair = spoil(store, publish("m"))
    with pytest.raises(ModelError):
        cache.get("m", "v1")
    repair()

    cache.drop("m", "v1")

    assert cache.refused() == {}
    cache.get("m", "v1")


def test_a_store_that_does_not_answer_is_asked_again_soon(
    store: ModelStore, cache: PredictorCache, publish: Publish, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m")

    def unavailable(*_: Any) -> Any:
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(ModelStore, "manifest", unavailable)
        with pytest.raises(StoreUnavailable):
            cache.get("m", "v1")
    clock.seconds += 1.1

    cache.get("m", "v1")


def test_a_refusal_is_one_line_in_the_log(
    store: ModelStore, cache: PredictorCache, publish: Publish, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(store, publish("m"))
    for _ in range(3):
        with pytest.raises(ModelError):
            cache.get("m", "v1")
        clock.seconds += 11

    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("refused m v1: ")
    assert "\n" not in errors[0]


def test_refusals_do_not_pile_up(cache: PredictorCache, publish: Publish) -> None:
    publish("m")

    for number in range(REFUSALS_MAX + 20):
        with pytest.raises(ModelError):
            cache.get("m", f"missing{number}")

    assert len(cache.refused()) == REFUSALS_MAX


def test_the_reason_of_a_refusal_fits_into_a_heartbeat(
    cache: PredictorCache, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> Any:
        raise ModelError("it needs \ud800" + "x" * 1_000_000)

    publish("m")
    monkeypatch.setattr(Predictor, "load", load)
    with pytest.raises(ModelError):
        cache.get("m", "v1")

    [reason] = cache.refused().values()
    assert reason.startswith("it needs \\ud800xxx")
    assert len(reason) == 1000


def test_a_worker_that_is_pinned_refuses_other_models(store: ModelStore, publish: Publish) -> None:
    publish("mine")
    publish("other")
    cache = PredictorCache(store, GIGABYTE, frozenset(["mine", "ours"]))

    cache.get("mine", "v1")
    with pytest.raises(ModelError, match="serves mine, ours only"):
        cache.get("other", "v1")

    assert labels(cache) == ["mine v1"]
    assert cache.refused() == {}


def test_idle_time(cache: PredictorCache, publish: Publish, clock: Clock) -> None:
    publish("m")
    assert cache.idle_seconds("m", "v1") == float("inf")

    cache.get("m", "v1")
    clock.seconds += 7
    assert cache.idle_seconds("m", "v1") == 7
    cache.get("m", "v1")
    assert cache.idle_seconds("m", "v1") == 0


def test_loads_are_observed(store: ModelStore, cache: PredictorCache, publish: Publish) -> None:
    publish("m", "v1")
    spoil(store, publish("m", "v2"))
    seen: list[tuple[str | None, bool]] = []
    cache.on_load = lambda manifest, seconds: seen.append((manifest.version if manifest else None, seconds is not None))

    cache.get("m", "v1")
    cache.get("m", "v1")
    for version in ("v2", "v2", "v3"):
        with pytest.raises(ModelError):
            cache.get("m", version)

    assert seen == [("v1", True), ("v2", False), (None, False)]
