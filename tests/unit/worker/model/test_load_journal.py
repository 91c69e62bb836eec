import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from headrace.errors import ArtifactInvalid, ModelError
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.clock import Clock
from tests.support.forks import LONGEST_SECONDS, in_child, in_paused_child
from tests.support.manifests import classifier
from tests.support.processes import wait_for
from tests.unit.worker.conftest import Publish
from worker.model import load_journal as module
from worker.model import predictor
from worker.model.cache import RETRY_SECONDS, PredictorCache
from worker.model.load_journal import LoadJournal

DIED = "a process of this worker died while it loaded this artifact"


@pytest.fixture
def journal() -> LoadJournal:
    return LoadJournal()


def version(version: str = "v1", sha256: str = "1" * 64, name: str = "m") -> Manifest:
    manifest = classifier(name=name, version=version)
    return manifest.model_copy(update={"artifact": manifest.artifact.model_copy(update={"sha256": sha256})})


def load_in_child(journal: LoadJournal, manifest: Manifest) -> None:
    """Load a version in a child that dies of it."""

    def load() -> None:
        with journal.noting(manifest):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(load) == -signal.SIGKILL


def is_refused(journal: LoadJournal, manifest: Manifest) -> bool:
    try:
        with journal.noting(manifest):
            return False
    except ArtifactInvalid:
        return True


def test_a_load_that_ends_well_or_with_an_error_can_be_repeated(journal: LoadJournal) -> None:
    def fail() -> None:
        with journal.noting(version()):
            raise ValueError

    for _ in range(2):
        assert not is_refused(journal, version())
        with pytest.raises(ValueError):
            fail()


def test_an_artifact_whose_load_killed_a_process_is_refused_in_all_others(journal: LoadJournal) -> None:
    load_in_child(journal, version())

    expected = f"^m v1: {DIED}; it is not loaded again until the worker restarts$"
    with pytest.raises(ArtifactInvalid, match=expected), journal.noting(version()):
        pytest.fail("loaded")
    assert in_child(lambda: is_refused(journal, version()) or os._exit(2)) == 0
    assert is_refused(journal, version("v2"))
    assert is_refused(journal, version(name="n"))
    assert not is_refused(journal, version(sha256="2" * 64))
    assert not is_refused(LoadJournal(), version())


def test_a_copy_of_an_artifact_with_other_samples_harms_itself_alone(journal: LoadJournal) -> None:
    copied = version(name="copied")
    assert copied.samples
    copied.samples.append(copied.samples[0])

    load_in_child(journal, copied)

    assert is_refused(journal, copied)
    assert not is_refused(journal, version())


def test_a_load_that_is_in_progress_elsewhere_refuses_nothing(journal: LoadJournal) -> None:
    def load(pause: Callable[[], None]) -> None:
        with journal.noting(version()):
            pause()

    with in_paused_child(load), in_paused_child(load):
        assert not is_refused(journal, version())
    assert is_refused(journal, version())


def test_a_zombie_counts_as_dead(journal: LoadJournal) -> None:
    def load(pause: Callable[[], None]) -> None:
        with journal.noting(version()):
            pause()

    # The other child is a parent that does not wait for its own children.
    def parent(pause: Callable[[], None]) -> None:
        with in_paused_child(load):
            [child] = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            os.kill(int(child), signal.SIGKILL)
            wait_for("the child is a zombie", lambda: " Z " in Path(f"/proc/{child}/stat").read_text())
            pause()

    with in_paused_child(parent):
        assert is_refused(journal, version())


def test_a_version_that_is_forgotten_is_tried_again(journal: LoadJournal) -> None:
    load_in_child(journal, version())

    journal.forget("m", "v2")
    assert is_refused(journal, version())
    journal.forget("m", "v1")
    assert not is_refused(journal, version())


def test_a_process_that_stops_during_a_load_says_nothing_of_the_version(journal: LoadJournal) -> None:
    def load() -> None:
        with journal.noting(version()):
            journal.end_own()
            os._exit(0)

    assert in_child(load) == 0
    assert not is_refused(journal, version())


def test_the_newest_loads_are_remembered(journal: LoadJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOADS_MAX", 2)
    digests = [str(number) * 64 for number in range(3)]
    for digest in digests:
        load_in_child(journal, version(sha256=digest))

    assert [is_refused(journal, version(sha256=digest)) for digest in reversed(digests)] == [True, True, False]


def test_one_process_at_a_time_is_exclusive(journal: LoadJournal) -> None:
    def hold(pause: Callable[[], None]) -> None:
        with journal.exclusive():
            pause()

    def enter(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with journal.exclusive():
            os._exit(0)

    with in_paused_child(hold):
        assert in_child(lambda: enter(0.1)) == -signal.SIGALRM
    assert in_child(lambda: enter(60)) == 0


def hold_the_interpreter() -> None:
    """Wait in a function of C that keeps the lock of the interpreter: no other thread runs."""
    ctypes.PyDLL(None).sleep(LONGEST_SECONDS // 2)


def test_a_load_that_does_not_end_ends_its_process_and_is_refused_afterwards() -> None:
    journal = LoadJournal(0.2)
    pids: list[int] = []

    def load() -> None:
        with journal.noting(version()):
            hold_the_interpreter()

    assert in_child(load, pids.append) == -signal.SIGALRM
    assert is_refused(journal, version("v2"))
    assert journal.load_of(pids[0]) == "m v1"
    assert journal.load_of(os.getpid()) is None


def test_the_timer_ends_with_the_load() -> None:
    journal = LoadJournal(LONGEST_SECONDS)

    def load() -> None:
        for error in (None, ValueError, KeyboardInterrupt):
            with suppress(ValueError, KeyboardInterrupt), journal.noting(version()):
                assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
                if error is not None:
                    raise error
            assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        os._exit(7)

    assert in_child(load) == 7


def test_without_a_limit_the_timers_of_others_stay(journal: LoadJournal) -> None:
    def load() -> None:
        with journal.noting(version()):
            pass
        os._exit(7 if signal.getitimer(signal.ITIMER_REAL)[0] > 0 else 1)

    assert in_child(load) == 7


def test_one_process_loads_a_version_first(journal: LoadJournal) -> None:
    def may_load(name: str = "v1") -> bool:
        with journal.first("m", name) as answer:
            return answer

    def load(pause: Callable[[], None]) -> None:
        with journal.first("m", "v1") as answer, journal.noting(version()):
            assert answer
            pause()

    def load_well() -> None:
        with journal.noting(version()):
            pass

    assert [may_load(), may_load()] == [True, True]
    with in_paused_child(load):
        assert not may_load()
        assert not may_load("v2"), "one version at a time"
    assert may_load("v2")
    assert may_load(), "it is refused by the load itself"
    assert is_refused(journal, version())
    journal.forget("m", "v1")
    assert in_child(load_well) == 0
    with in_paused_child(load):
        assert may_load(), "it was loaded before"


def test_a_wait_for_a_load_is_no_load(journal: LoadJournal) -> None:
    def wait() -> None:
        with journal.first("m", "v1"):
            os.kill(os.getpid(), signal.SIGKILL)

    pids: list[int] = []
    assert in_child(wait, pids.append) == -signal.SIGKILL
    assert journal.load_of(pids[0]) is None
    assert not is_refused(journal, version())


def test_the_end_of_a_wait_leaves_the_load_of_another_thread(journal: LoadJournal) -> None:
    def load() -> None:
        with journal.noting(version()):
            with journal.first("m", "v2"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(load) == -signal.SIGKILL
    assert is_refused(journal, version())


def test_a_cache_refuses_what_killed_another_child(
    store: ModelStore, publish: Publish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = publish("m")
    clock = Clock()
    cache = PredictorCache(store, 10**9, clock=clock)
    loads: list[tuple[Manifest | None, float | None]] = []
    cache.on_load = lambda *load: loads.append(load)
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "load_estimator", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert in_child(lambda: cache.get("m", "v1")) == -signal.SIGKILL

    for _ in range(2):
        with pytest.raises(ModelError, match=DIED):
            cache.get("m", "v1")
        clock.seconds += RETRY_SECONDS + 1

    assert DIED in cache.refused()["m", "v1"]
    assert loads == [(manifest, None)] * 2
    assert [line for line in caplog.messages if DIED in line] == [f"refused m v1: {cache.refused()['m', 'v1']}"]
    cache.drop("m", "v1")
    assert str(cache.get("m", "v1")) == "m v1"


def test_a_child_that_dies_while_the_store_answers_says_nothing_of_the_version(
    store: ModelStore, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m")
    cache = PredictorCache(store, 10**9)
    with monkeypatch.context() as patch:
        patch.setattr(ModelStore, "copy_artifact", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert in_child(lambda: cache.get("m", "v1")) == -signal.SIGKILL

    assert str(cache.get("m", "v1")) == "m v1"


def test_a_cache_that_stops_says_nothing_of_what_it_loads(
    store: ModelStore, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m")
    cache = PredictorCache(store, 10**9)

    def stop(*_: object) -> None:
        cache.stop()
        os._exit(0)

    with monkeypatch.context() as patch:
        patch.setattr(predictor, "load_estimator", stop)
        assert in_child(lambda: cache.get("m", "v1")) == 0

    assert str(cache.get("m", "v1")) == "m v1"
