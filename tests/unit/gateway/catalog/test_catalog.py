import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from gateway.batching.batcher import Batcher
from gateway.broker.workers import Workers
from gateway.catalog import served_models
from gateway.catalog.catalog import LOOK_UPS_TOGETHER, PATIENCE_SECONDS, Catalog
from gateway.catalog.row_parser import RowParser
from gateway.catalog.served_model import ServedModel
from gateway.catalog.served_models import KEEP_SECONDS, LINES_PER_SECOND, RefusedVersions
from gateway.errors import ModelUnavailable, QueueFull, RequestError, UnknownModel
from headrace.errors import ArtifactInvalid, FileUnusable, ManifestInvalid, ModelError, ModelNotFound, StoreUnavailable
from headrace.models.alias import Alias, Trial
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.coroutines import run, turns, until
from tests.support.manifests import classifier


class FakeStore:
    """A store in memory that can be out of reach."""

    look_seconds = 0.0

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Alias]] = {}
        self.versions: set[tuple[str, str]] = set()
        self.failure: ModelError | None = None
        self.damaged: dict[tuple[str, str], ModelError] = {}
        """Name and alias, or name and "" for all aliases -> the error of reading it."""
        self.read: list[str] = []
        """Manifests that were read."""

    def exists(self) -> bool:
        return True

    def put(self, name: str, alias: str, version: str, *earlier: str, **trials: Trial) -> None:
        """Point an alias to a version, and add the version."""
        self.versions |= {(name, version), *((name, trial.version) for trial in trials.values())}
        record = Alias(version=version, previous=[*earlier], moved_at="2026-11-23T12:45:00+00:00", **trials)
        self.models.setdefault(name, {})[alias] = record

    def names(self) -> list[str]:
        self._may_fail()
        return sorted({name for name, _ in self.versions})

    def alias_records(self, name: str, on_damage: Callable[[str, ModelError], None]) -> dict[str, Alias]:
        self._may_fail()
        if (name, "") in self.damaged:
            raise self.damaged[name, ""]
        records = dict(self.models.get(name, {}))
        for alias in list(records):
            if (name, alias) in self.damaged:
                on_damage(alias, self.damaged[name, alias])
                del records[alias]
        return records

    def manifest(self, name: str, ref: str = "latest", explain: bool = True) -> Manifest:
        self._may_fail()
        if (name, ref) in self.damaged:
            raise self.damaged[name, ref]
        record = self.models.get(name, {}).get(ref)
        version = record.version if record else ref
        self.read.append(f"{name} {version}")
        if (name, version) not in self.versions:
            raise ModelNotFound("no such thing")
        return classifier(name=name, version=version)

    def _may_fail(self) -> None:
        if self.failure:
            raise self.failure


class FakeWorkers:
    """Workers whose loaded versions a test sets."""

    def __init__(self) -> None:
        self.loaded: dict[str, dict[str, bool]] = {}
        """Worker -> `<name> <version>` -> True if all children of the worker have it."""
        self.refused: dict[str, set[str]] = {}

    def hold(self, worker: str, *labels: str, partly: Sequence[str] = ()) -> None:
        self.loaded[worker] = {**dict.fromkeys(labels, True), **dict.fromkeys(partly, False)}

    def holders(self, name: str, version: str) -> dict[str, bool]:
        holding = {worker for worker, labels in self.loaded.items() if any(x.startswith(f"{name} ") for x in labels)}
        return {worker: self.loaded[worker].get(f"{name} {version}", False) for worker in holding}

    def refusals(self, label: str) -> set[str]:
        return self.refused.get(label, set())

    def held_instead(self, name: str, version: str, earlier: Sequence[str]) -> str | None:
        return Workers.held_instead(cast(Workers, self), name, version, earlier)


class FakeBatcher:
    idle = True


class FakeTime:
    """Replacement for the module `time` in the catalog, so that the event loop's own clock goes on."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    def monotonic(self) -> float:
        return self._gateway.now


class Gateway:
    """A catalog with a store, workers and a clock that a test sets; worker `a` has sticks v1 loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("gateway.catalog.catalog.time", FakeTime(self))
        self.store, self.workers = FakeStore(), FakeWorkers()
        self.store.put("sticks", "latest", "v1")
        self.workers.hold("a", "sticks v1")
        self.made: list[str] = []
        self.made_by: set[threading.Thread] = set()
        self.catalog = Catalog(cast(ModelStore, self.store), "sticks", cast(Any, self.workers), self._make)
        self.catalog.load()

    def _make(self, manifest: Manifest) -> ServedModel:
        self.made.append(f"{manifest.name} {manifest.version}")
        self.made_by.add(threading.current_thread())
        parser = RowParser(manifest, 10)
        return ServedModel(manifest, parser, cast(Batcher, FakeBatcher()), used_at=self.now)

    def look(self, seconds_later: float = 1.0) -> None:
        """Refresh the catalog a little later."""
        self.now += seconds_later
        run(self.catalog.refresh())

    def serves(self, name: str = "sticks", reference: str | None = None, key: str = "") -> str | None:
        """Return the version that answers now."""
        served = self.catalog.served_now(name, reference, key)
        return served.manifest.version if served else None

    def get(self, name: str, reference: str | None = None) -> str:
        return run(self.catalog.get(name, reference)).manifest.version

    def refusal(self, name: str, reference: str | None = None) -> RequestError:
        with pytest.raises(RequestError) as caught:
            self.get(name, reference)
        return caught.value


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    return Gateway(monkeypatch)


# --- models and versions


def test_the_default_model_is_there_from_the_start(at: Gateway) -> None:
    assert at.made == ["sticks v1"]
    assert (at.serves(), at.serves(reference="latest"), at.serves(reference="v1")) == ("v1", "v1", "v1")
    assert at.catalog.default.label == "sticks v1"


def test_other_models_are_read_at_their_first_request_and_once(at: Gateway) -> None:
    at.store.put("stones", "latest", "v7")
    at.look()
    assert at.catalog.names == ["sticks", "stones"]
    assert at.get("stones") == "v7"
    assert at.get("stones", "v7") == at.serves("stones", "latest") == "v7"
    assert at.store.read.count("stones v7") == 1
    assert at.made == ["sticks v1", "stones v7"]


def test_a_model_can_be_asked_for_before_it_was_seen(at: Gateway) -> None:
    at.store.put("stones", "latest", "v7")
    at.store.put("stones", "candidate", "v8")

    assert (at.get("stones"), at.get("stones", "candidate"), at.get("stones", "v8")) == ("v7", "v8", "v8")


@pytest.mark.parametrize(("name", "reference"), [("stones", None), ("stones", "v1"), ("sticks", "v9"), ("..", None)])
def test_a_version_that_is_not_in_the_store_is_unknown(at: Gateway, name: str, reference: str | None) -> None:
    assert isinstance(at.refusal(name, reference), UnknownModel)


@pytest.mark.parametrize("failure", [StoreUnavailable("secret"), ManifestInvalid("secret")])
def test_a_version_that_can_not_be_read_is_unavailable_and_read_again_later(
    at: Gateway, failure: ModelError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_models, "REFUSED_SECONDS", 0.0)
    at.store.put("sticks", "other", "v2")
    at.store.failure = failure

    refusal = at.refusal("sticks", "v2")

    assert isinstance(refusal, ModelUnavailable)
    assert "secret" not in str(refusal)
    assert at.get("sticks") == "v1", "what is in memory is served without the store"
    at.store.failure = None
    assert at.get("sticks", "v2") == "v2"


@pytest.mark.parametrize(
    ("failure", "reads"), [(ManifestInvalid("damaged"), 1), (ArtifactInvalid("unsigned"), 1), (StoreUnavailable(), 3)]
)
def test_a_refused_version_is_not_read_for_every_caller(
    at: Gateway, failure: ModelError, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_models, "REFUSED_SECONDS", PATIENCE_SECONDS)
    at.store.put("sticks", "other", "v2")
    at.store.put("sticks", "another", "v3")
    read: list[str] = []

    def manifest(_: str, ref: str, __: bool) -> Manifest:
        read.append(ref)
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(at.store, "manifest", manifest)
        for _ in range(3):
            assert isinstance(at.refusal("sticks", "v2"), ModelUnavailable)

    assert read == ["v2"] * reads
    assert at.get("sticks", "v3") == "v3"


def test_few_refused_versions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_models, "REFUSED_MAX", 2)
    refused = RefusedVersions()
    for version in ("v1", "v2", "v1", "v3"):
        refused.add(("sticks", version), ManifestInvalid("damaged"))

    refused.check(("sticks", "v2"))
    for version in ("v1", "v3"):
        with pytest.raises(ModelUnavailable):
            refused.check(("sticks", version))


def test_a_flood_of_requests_for_damaged_versions_does_not_flood_the_log(
    at: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    at.store.failure = ManifestInvalid("damaged")

    async def asked() -> None:
        for number in range(5 * LINES_PER_SECOND):
            with pytest.raises(ModelUnavailable):
                await at.catalog.get("sticks", f"v{number + 2}")

    run(asked())
    # The second may end in between.
    assert 0 < caplog.text.count("damaged") < 3 * LINES_PER_SECOND


def test_look_ups_of_one_owner_leave_others_their_turns(at: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd_reads, asked = threading.Semaphore(0), []

    def read(name: str, ref: str, explain: bool) -> Manifest:
        asked.append(ref)
        assert ref == "y" or crowd_reads.acquire(timeout=100)
        raise ModelNotFound(name)

    async def look_up(version: str, owner: str) -> None:
        with pytest.raises(UnknownModel):
            await at.catalog.get("sticks", version, owner)

    async def scenario() -> None:
        crowd = [asyncio.create_task(look_up(f"x{at}", "crowd")) for at in range(10 * LOOK_UPS_TOGETHER)]
        await turns()
        other = asyncio.create_task(look_up("y", "other"))
        await until("as many are read as may be", lambda: len(asked) == LOOK_UPS_TOGETHER)
        # So many reads of the crowd end, and the others keep their places.
        crowd_reads.release(2 * LOOK_UPS_TOGETHER)
        try:
            await asyncio.wait_for(other, 30)
        finally:
            crowd_reads.release(len(crowd))
        await asyncio.gather(*crowd)

    monkeypatch.setattr(at.store, "manifest", read)
    run(scenario())


def test_an_alias_is_followed_while_callers_fill_all_look_ups(at: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    may_read, asked, manifest = threading.Event(), [], at.store.manifest

    def read(name: str, ref: str, explain: bool) -> Manifest:
        if ref.startswith("x"):
            asked.append(ref)
            may_read.wait(60)
        return manifest(name, ref, explain)

    async def look_up(version: str) -> None:
        with pytest.raises(RequestError):
            await at.catalog.get("sticks", version)

    async def scenario() -> None:
        # With a single common thread, a look-up that took it would hold up the catalog.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        crowd = [asyncio.create_task(look_up(f"x{at}")) for at in range(10 * LOOK_UPS_TOGETHER)]
        await until("as many are read as may be", lambda: len(asked) == LOOK_UPS_TOGETHER, 60)
        try:
            await asyncio.wait_for(at.catalog.refresh(), 30)
            assert at.serves() == "v2"
        finally:
            may_read.set()
        await asyncio.gather(*crowd)

    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    monkeypatch.setattr(at.store, "manifest", read)
    run(scenario(), 100)


def test_a_version_that_many_ask_for_at_once_is_read_by_those_who_look_up_first(at: Gateway) -> None:
    at.store.put("stones", "latest", "v1")

    async def crowd() -> None:
        await asyncio.gather(*[at.catalog.get("stones", "v1") for _ in range(10 * LOOK_UPS_TOGETHER)])

    run(crowd())
    assert 0 < at.store.read.count("stones v1") <= LOOK_UPS_TOGETHER


def test_without_the_default_model_others_are_served_until_it_is_there(
    at: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    at.catalog = Catalog(cast(ModelStore, at.store), "late", cast(Any, at.workers), at._make)
    at.catalog.load()
    at.look()
    assert at.catalog.lacks_default and "DEFAULT_MODEL: no such thing" in caplog.text
    assert at.get("sticks") == "v1"
    assert isinstance(at.refusal("late"), UnknownModel)
    with pytest.raises(UnknownModel):
        at.catalog.default  # noqa: B018

    at.store.put("late", "latest", "v1")
    at.look()
    assert at.catalog.default.label == "late v1"


def test_a_default_model_whose_alias_is_there_before_its_version_is_served_once_it_is(at: Gateway) -> None:
    at.store.put("late", "latest", "v2")
    at.store.versions -= {("late", "v2")}
    at.store.versions |= {("late", "v1")}
    at.catalog = Catalog(cast(ModelStore, at.store), "late", cast(Any, at.workers), at._make)
    at.catalog.load()
    assert at.get("late", "v1") == "v1"
    at.look()
    assert at.catalog.lacks_default

    at.store.versions |= {("late", "v2")}
    at.look()
    assert at.catalog.default.label == "late v2"


def test_while_the_store_is_away_everything_stays_as_it_is(at: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    at.store.failure = StoreUnavailable("it does not answer")
    run(at.catalog.step())
    assert at.serves() == "v1"
    assert "it does not answer" in caplog.text
    at.store.failure = None
    run(at.catalog.step())
    assert at.serves() == "v2"


# --- moves of aliases


def test_an_alias_is_followed_when_the_workers_have_its_version(at: Gateway) -> None:
    at.store.put("sticks", "latest", "v2")
    at.look()
    assert at.serves() == "v1"
    assert at.catalog.moves("sticks") == {"latest": {"version": "v2", "refused": []}}

    at.workers.hold("a", "sticks v1", partly=["sticks v2"])
    at.look()
    assert at.serves() == "v1", "not all of its children"

    at.workers.hold("a", "sticks v1", "sticks v2")
    at.look()
    assert at.serves() == "v2"
    assert at.catalog.moves("sticks") == {}
    assert at.serves(reference="v1") == "v1", "for callers who name it"


def test_the_first_request_after_a_move_does_not_wait_for_the_store(at: Gateway) -> None:
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    at.look()
    at.store.failure = StoreUnavailable("away")

    assert at.get("sticks") == "v2"


def test_a_version_whose_manifest_can_not_be_read_is_not_followed(at: Gateway) -> None:
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    at.store.versions.remove(("sticks", "v2"))
    at.store.versions.add(("sticks", "v1"))
    at.look()

    assert at.serves() == "v1"
    assert "latest" in at.catalog.moves("sticks")


def test_all_workers_that_hold_the_model_must_have_the_version(at: Gateway) -> None:
    at.workers.hold("b", "sticks v1")
    at.workers.hold("idle")
    at.workers.hold("other", "stones v1")
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    at.look()
    assert at.serves() == "v1"

    at.workers.hold("b", "sticks v2")
    at.look()
    assert at.serves() == "v2", "workers that hold none of its versions load it on demand"


def test_patience_with_the_last_workers_has_an_end(at: Gateway) -> None:
    at.workers.hold("slow", "sticks v1")
    at.workers.hold("a", "sticks v2")
    at.store.put("sticks", "latest", "v2")
    at.look()
    at.look(PATIENCE_SECONDS)
    assert at.serves() == "v1"
    at.look(0.5)
    assert at.serves() == "v2"


def test_a_move_waits_for_ever_while_no_worker_has_the_version(at: Gateway) -> None:
    at.store.put("sticks", "latest", "v2")
    at.look()
    at.look(100 * PATIENCE_SECONDS)

    assert at.serves() == "v1"


def test_patience_begins_anew_with_another_version(at: Gateway) -> None:
    at.workers.hold("slow", "sticks v1")
    at.workers.hold("a", "sticks v2", "sticks v3")
    at.store.put("sticks", "latest", "v2")
    at.look()
    at.store.put("sticks", "latest", "v3")
    at.look(PATIENCE_SECONDS - 1)
    at.look(2)
    assert at.serves() == "v1"
    at.look(PATIENCE_SECONDS)
    assert at.serves() == "v3"


def test_while_no_worker_is_there_nothing_moves(at: Gateway) -> None:
    at.workers.loaded.clear()
    at.store.put("sticks", "latest", "v2")
    at.look()
    at.look(2 * PATIENCE_SECONDS)

    assert at.serves() == "v1"


def test_a_refused_version_is_never_followed_and_the_reason_is_shown(at: Gateway) -> None:
    at.workers.hold("b", "sticks v1")
    at.workers.hold("a", "sticks v2")
    at.workers.refused["sticks v2"] = {"of another library"}
    at.store.put("sticks", "latest", "v2")
    at.look()
    at.look(2 * PATIENCE_SECONDS)
    assert at.serves() == "v1"
    assert at.catalog.moves("sticks") == {"latest": {"version": "v2", "refused": ["of another library"]}}

    at.store.put("sticks", "latest", "v1")
    at.look()
    assert (at.serves(), at.catalog.moves("sticks")) == ("v1", {}), "taken back"


def test_a_version_that_no_worker_can_load_is_left_at_once(at: Gateway) -> None:
    at.workers.loaded.clear()
    at.workers.refused["sticks v1"] = {"a module is missing"}
    at.store.put("sticks", "latest", "v2")
    at.look()

    assert at.serves() == "v2"


def test_an_earlier_version_answers_while_workers_refuse_the_one_of_the_alias(at: Gateway) -> None:
    """A gateway that starts has not seen that its alias moved to a version that workers refuse."""
    at.store.put("sticks", "latest", "v3", "v2", "v1")
    at.workers.hold("a", "sticks v3")
    at.look()
    at.workers.refused["sticks v3"] = {"a process died"}
    at.workers.hold("b", "sticks v1")
    at.look()
    assert at.serves() == "v3", "a worker has it"

    at.workers.hold("a", "sticks v1", partly=["sticks v2"])
    at.look()
    assert at.serves() == at.catalog.default.manifest.version == "v1"
    assert at.catalog.moves("sticks") == {"latest": {"version": "v3", "refused": ["a process died"]}}

    del at.workers.refused["sticks v3"]
    at.workers.hold("a", "sticks v3")
    at.workers.hold("b", "sticks v3")
    at.look()
    assert (at.serves(), at.catalog.moves("sticks")) == ("v3", {}), "workers have it again"


def test_production_is_preferred_to_latest(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2", "sticks v3")
    at.store.put("sticks", "production", "v2")
    at.store.put("sticks", "latest", "v3")
    at.look()
    assert at.catalog.aliases("sticks") == {"latest": "v3", "production": "v2"}
    assert at.catalog.alias_of("sticks") == "production"
    assert (at.serves(), at.get("sticks", "latest")) == ("v2", "v3")

    at.store.put("sticks", "latest", "v1")
    at.look()
    assert at.serves() == "v2"


def test_the_first_alias_of_an_unused_model_does_not_wait(at: Gateway) -> None:
    at.store.put("stones", "latest", "v1")
    at.look()

    assert at.catalog.aliases("stones") == {"latest": "v1"}


def test_an_alias_that_was_removed_is_unknown(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.store.put("sticks", "candidate", "v2", split=Trial(version="v1", share=1.0))
    at.look()
    assert "candidate" in at.catalog.trials("sticks")
    del at.store.models["sticks"]["candidate"]
    at.look()
    assert isinstance(at.refusal("sticks", "candidate"), UnknownModel)
    assert (at.catalog.aliases("sticks"), at.catalog.trials("sticks")) == ({"latest": "v1"}, {})


@pytest.mark.parametrize("damaged", ["candidate", ""], ids=["one alias", "all aliases"])
def test_a_damaged_alias_stays_where_it_is_and_holds_up_no_other(
    at: Gateway, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    at.store.put("sticks", "candidate", "v2")
    at.store.put("stones", "latest", "v1")
    at.workers.hold("a", "sticks v1", "sticks v2", "stones v1", "stones v2")
    at.look()
    at.store.damaged["sticks", damaged] = FileUnusable("it is not a regular file")
    at.store.put("stones", "latest", "v2")
    if damaged:
        at.store.put("sticks", "latest", "v2")

    for _ in range(3):
        at.look()

    assert (at.serves(), at.get("sticks", "candidate")) == ("v2" if damaged else "v1", "v2")
    assert at.serves("stones") == "v2"
    assert at.catalog.alias_of("sticks") == "latest"
    complaints = [line for line in caplog.messages if "it is not a regular file" in line]
    assert len(complaints) == (1 if damaged else 2)

    at.store.damaged.clear()
    at.store.put("sticks", "candidate", "v1")
    at.look()
    assert at.serves(reference="candidate") == "v1"


def test_latest_does_not_answer_in_the_place_of_a_damaged_production(
    at: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_models, "REFUSED_SECONDS", 0.0)
    at.store.put("stones", "latest", "v2")
    at.store.put("stones", "production", "v1")
    at.store.damaged["stones", "production"] = ManifestInvalid("no alias")
    started_now = Catalog(cast(ModelStore, at.store), "sticks", cast(Any, at.workers), at._make)
    started_now.load()
    at.look()

    for catalog in (started_now, at.catalog):
        with pytest.raises(ModelUnavailable):
            run(catalog.get("stones"))
        assert run(catalog.get("stones", "latest")).manifest.version == "v2"

    at.store.damaged.clear()
    at.look()
    assert at.get("stones") == "v1"


def test_a_damaged_alias_of_the_default_model_ends_the_start(at: Gateway) -> None:
    at.store.put("sticks", "production", "v1")
    for damaged in ("production", ""):
        at.store.damaged = {("sticks", damaged): ManifestInvalid("no alias")}
        with pytest.raises(ManifestInvalid):
            Catalog(cast(ModelStore, at.store), "sticks", cast(Any, at.workers), at._make).load()


def test_a_move_of_an_alias_that_was_removed_is_over(at: Gateway) -> None:
    at.store.put("sticks", "candidate", "v2")
    at.look()
    assert "candidate" in at.catalog.moves("sticks")
    del at.store.models["sticks"]["candidate"]
    at.look()
    assert at.catalog.moves("sticks") == {}


def test_the_default_model_always_means_something(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.store.put("sticks", "production", "v2")
    at.look()
    at.now += 2 * KEEP_SECONDS
    del at.store.models["sticks"]["production"]
    at.look()
    assert at.catalog.default.label == "sticks v1"
    at.store.models["sticks"].clear()
    at.look()
    assert at.catalog.default.label == "sticks v1"
    at.store.versions.clear()
    at.look(2 * KEEP_SECONDS)
    assert at.catalog.default.label == "sticks v1"
    assert at.catalog.names == ["sticks"]


def test_a_model_that_was_removed_is_unknown(at: Gateway) -> None:
    at.store.put("stones", "latest", "v1")
    at.look()
    at.store.versions.remove(("stones", "v1"))
    del at.store.models["stones"]
    at.look()

    assert at.catalog.names == ["sticks"]
    assert isinstance(at.refusal("stones"), UnknownModel)


# --- memory


def test_unused_versions_are_forgotten(at: Gateway) -> None:
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    at.look()
    at.look(KEEP_SECONDS - 2)
    assert at.serves(reference="v1") == "v1", "and used again"
    at.look(KEEP_SECONDS)
    assert at.serves(reference="v1") == "v1"
    at.look(KEEP_SECONDS + 1)
    assert at.serves(reference="v1") is None
    assert at.get("sticks", "v1") == "v1", "read once more"
    assert at.made == ["sticks v1", "sticks v2", "sticks v1"]


def test_versions_that_an_alias_means_are_kept(at: Gateway) -> None:
    at.store.put("sticks", "old", "v1")
    at.look()
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.look()
    at.look(10 * KEEP_SECONDS)

    assert (at.serves(), at.serves(reference="old")) == ("v2", "v1")


@pytest.fixture
def room_for_three(at: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway with the memory of three versions."""
    monkeypatch.setattr("gateway.catalog.served_models.BYTES_MAX", int(3.5 * at.catalog.default.memory_bytes))
    return at


def test_models_that_no_one_uses_are_not_read(at: Gateway) -> None:
    for number in range(1000):
        at.store.put(f"m{number}", "latest", "v1", "v0", split=Trial(version="v2", share=1.0))
        at.store.put(f"m{number}", "production", "v1", shadow=Trial(version="v2", share=1.0))
    at.look()
    for number in range(1000):
        at.store.put(f"m{number}", "production", "v3")
    at.look()

    assert at.catalog.aliases("m7") == {"latest": "v1", "production": "v3"}
    assert at.made == ["sticks v1"]
    assert at.get("m7") == "v3"
    assert at.made == ["sticks v1", "m7 v3"]


def test_a_version_is_made_outside_of_the_event_loop(at: Gateway) -> None:
    at.made_by.clear()
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    at.look()
    at.get("sticks", "v2")
    at.store.put("stones", "latest", "v1")
    at.get("stones")

    assert at.made == ["sticks v1", "sticks v2", "stones v1"]
    assert threading.current_thread() not in at.made_by


def test_beyond_the_memory_the_version_goes_that_was_not_used_for_longest(room_for_three: Gateway) -> None:
    at = room_for_three
    for name in ("a", "b", "c", "d"):
        at.store.put(name, "latest", "v1")
    at.look()
    for name in ("a", "b", "a", "c", "d"):
        at.now += 1
        at.get(name)

    assert [served.manifest.name for served in at.catalog.served] == ["sticks", "c", "d"]
    assert at.get("a") == "v1", "read once more"
    assert len(at.catalog.served) == 3


def test_neither_the_default_model_nor_one_on_trial_or_with_waiting_callers_makes_room(
    room_for_three: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = room_for_three
    at.workers.hold("a", "sticks v1", "stones v1", "stones v2")
    at.store.put("stones", "latest", "v1", shadow=Trial(version="v2", share=0.5))
    at.look()
    at.get("stones")
    at.now += 1
    at.store.put("other", "latest", "v1")

    assert at.get("other") == "v1"
    assert sorted(served.label for served in at.catalog.served) == ["other v1", "sticks v1", "stones v2"]
    monkeypatch.setattr(FakeBatcher, "idle", False)
    assert isinstance(at.refusal("stones"), QueueFull)
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2", "stones v1", "stones v2")
    at.look()
    assert at.serves() == "v1", "there is no room for the version that it moves to"
    monkeypatch.setattr(FakeBatcher, "idle", True)
    at.look()
    assert at.serves() == "v2"


def test_versions_with_waiting_callers_are_kept(at: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBatcher, "idle", False)
    at.store.put("sticks", "latest", "v2")
    at.workers.hold("a", "sticks v2")
    at.look()
    at.look(10 * KEEP_SECONDS)
    assert at.serves(reference="v1") == "v1"


# --- trials


def test_a_split_starts_when_the_workers_are_ready_and_ends_with_its_record(at: Gateway) -> None:
    at.store.put("sticks", "latest", "v1", split=Trial(version="v2", share=1.0))
    at.look()
    assert (at.serves(), at.catalog.trials("sticks")) == ("v1", {})

    at.workers.hold("a", "sticks v1", "sticks v2")
    at.look()
    assert at.catalog.trials("sticks") == {"latest": {"split": {"version": "v2", "share": 1.0}}}
    assert (at.serves(), at.serves(reference="latest")) == ("v2", "v2")
    assert at.serves(reference="v1") == "v1", "a caller who names a version gets that one"

    at.store.put("sticks", "latest", "v1")
    at.look()
    assert (at.serves(), at.catalog.trials("sticks")) == ("v1", {})


def test_a_split_is_by_key(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.store.put("sticks", "latest", "v1", split=Trial(version="v2", share=0.5))
    at.look()

    answers = {key: at.serves(key=key) for key in map(str, range(200))}

    assert set(answers.values()) == {"v1", "v2"}
    assert answers == {key: at.serves(key=key) for key in answers}


def test_a_share_can_be_changed_while_it_goes_on(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    for share in (0.25, 1.0):
        at.store.put("sticks", "latest", "v1", split=Trial(version="v2", share=share))
        at.look()
        assert at.catalog.trials("sticks") == {"latest": {"split": {"version": "v2", "share": share}}}


@pytest.mark.parametrize("kind", ["split", "shadow"])
def test_a_refused_version_gets_no_trial(at: Gateway, kind: str) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.workers.refused["sticks v2"] = {"of another library"}
    at.store.put("sticks", "latest", "v1", **{kind: Trial(version="v2", share=1.0)})
    at.look()

    assert (at.serves(), at.catalog.trials("sticks")) == ("v1", {})


@pytest.fixture
def split(at: Gateway) -> Gateway:
    """Return a gateway whose only worker holds v1 and v2, and in which v2 answers all."""
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.store.put("sticks", "latest", "v1", split=Trial(version="v2", share=1.0))
    at.look()
    assert at.serves() == "v2"
    return at


def test_a_trial_ends_when_the_version_is_refused(split: Gateway) -> None:
    split.workers.refused["sticks v2"] = {"of another library"}
    split.look()
    assert split.serves() == "v1"


def test_a_trial_goes_on_while_a_new_worker_loads_its_version(split: Gateway) -> None:
    split.workers.hold("b", "sticks v1")
    split.look(PATIENCE_SECONDS - 1)
    assert split.serves() == "v2", "the caller with this key keeps the version"
    split.workers.hold("b", "sticks v1", "sticks v2")
    split.look()
    split.workers.hold("a", "sticks v1", partly=["sticks v2"])
    split.look(PATIENCE_SECONDS)
    assert split.serves() == "v2"


def test_a_trial_ends_when_its_version_stays_away_from_memory(split: Gateway) -> None:
    split.workers.hold("a", "sticks v1")
    split.look(PATIENCE_SECONDS)
    split.look()
    assert split.serves() == "v1"


def test_another_version_on_trial_waits_until_the_workers_are_ready(split: Gateway) -> None:
    split.store.put("sticks", "latest", "v1", split=Trial(version="v3", share=1.0))
    split.look()
    assert split.serves() == "v1"


def test_a_shadow_gets_a_copy_and_answers_no_caller(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.store.put("sticks", "latest", "v1", shadow=Trial(version="v2", share=1.0))
    at.look()
    served = at.catalog.served_now("sticks")
    assert served is not None
    assert served.manifest.version == "v1"

    shadow = at.catalog.shadow_of("sticks", None, served)
    assert shadow is not None
    assert shadow.manifest.version == "v2"
    assert at.catalog.shadow_of("sticks", "latest", served) is shadow
    assert at.catalog.shadow_of("sticks", "v1", served) is None
    assert at.catalog.shadow_of("sticks", None, shadow) is None, "a version is not its own shadow"
    assert at.catalog.shadow_of("stones", None, served) is None
    assert at.catalog.trials("sticks") == {"latest": {"shadow": {"version": "v2", "share": 1.0}}}


def test_versions_on_trial_are_kept(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.store.put("sticks", "latest", "v1", shadow=Trial(version="v2", share=0.5))
    at.look()
    at.look(10 * KEEP_SECONDS)
    assert at.serves(reference="v2") == "v2"

    at.store.put("sticks", "latest", "v1")
    at.look(10 * KEEP_SECONDS)
    at.look(KEEP_SECONDS + 1)
    assert at.serves(reference="v2") is None


def test_an_alias_that_is_not_asked_for_has_trials_of_its_own(at: Gateway) -> None:
    at.workers.hold("a", "sticks v1", "sticks v2")
    at.store.put("sticks", "beta", "v1", split=Trial(version="v2", share=1.0))
    at.look()

    assert (at.serves(), at.serves(reference="beta")) == ("v1", "v2")
