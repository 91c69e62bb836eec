import os
import pickle
import select
import signal
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import redis
from billiard import einfo
from celery import Celery
from celery.app.trace import build_tracer
from celery.utils.serialization import get_pickled_exception

from worker.consumer.pool import MAINTAIN_SECONDS, PoolMonitor, RestartPauses, keep_failures_small

PIPE_BYTES = 65_536


class FakePool:
    """A pool with places for two children, which start and die as a test says."""

    maintain_pool = print

    def __init__(self, *children: Any) -> None:
        self._pool: list[Any] = [*children]
        self._waiting_to_start: set[Any] = set()
        self.dead: set[Any] = set()
        self.n_started = 0

    def _join_exited_workers(self, shutdown: bool = False) -> list[int]:
        codes = [-7 for child in self._pool if child in self.dead]
        self._pool = [child for child in self._pool if child not in self.dead]
        self._waiting_to_start -= self.dead
        self.dead = set()
        return codes

    def _repopulate_pool(self, exit_codes: list[int]) -> None:
        for _ in range(2 - len(self._pool)):
            self.n_started += 1
            child = f"child {self.n_started}"
            self._pool.append(child)
            self._waiting_to_start.add(child)

    def look(self) -> None:
        """Do as billiard's pool does in `_maintain_pool`."""
        self._repopulate_pool(self._join_exited_workers())


def a_consumer(timer: Any, pool: FakePool) -> Any:
    app = SimpleNamespace(headrace_load_of={8: "m v2"}.get, headrace_on_child_death=lambda _: None)
    return SimpleNamespace(timer=timer, pool=SimpleNamespace(_pool=pool), app=app)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("worker.consumer.pool.time.monotonic", lambda: clock.now)
    return clock


def test_children_that_die_before_they_are_ready_start_again_later_and_later(
    clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pool = FakePool()
    RestartPauses(pool)
    began, starts = clock.now, []
    while clock.now < began + 120:
        before = pool.n_started
        pool.look()
        if pool.n_started > before:
            starts.append(clock.now - began)
        pool.dead = set(pool._pool)
        clock.now += 0.5

    assert starts == [0.0, 1.0, 2.5, 5.0, 9.5, 18.0, 34.5, 65.0, 95.5]
    assert len(caplog.messages) == len(starts)
    assert caplog.messages[1].endswith("2 times in a row: the next starts in 1 s")


def test_a_child_that_was_ready_is_replaced_at_once(clock: Any) -> None:
    pool = FakePool()
    RestartPauses(pool)
    for number in range(10):
        pool.look()
        assert pool.n_started == number + 2
        pool._waiting_to_start.clear()
        pool.dead = {pool._pool[0]}


def test_one_that_starts_well_ends_the_pauses(clock: Any) -> None:
    pool = FakePool()
    RestartPauses(pool)
    for _ in range(5):
        pool.look()
        pool.dead = set(pool._pool)
        clock.now += 60
    pool.look()
    clock.now += 60
    pool.look()
    pool._waiting_to_start.clear()
    pool.look()

    pool.dead = {pool._pool[0]}
    pool.look()
    pool.dead = {pool._pool[1]}
    pool.look()
    started = pool.n_started
    clock.now += 0.5
    pool.look()
    assert pool.n_started == started + 1, "half a second, as after the first"


def test_dead_children_are_looked_for_while_the_worker_consumes() -> None:
    calls: list[Any] = []
    entry = SimpleNamespace(cancel=lambda: calls.append("cancelled"))

    def call_repeatedly(*what: Any) -> Any:
        calls.append(what)
        return entry

    timer = SimpleNamespace(call_repeatedly=call_repeatedly)
    consumer = a_consumer(timer, FakePool())
    monitor = PoolMonitor(consumer)

    monitor.start(consumer)
    assert calls == [(MAINTAIN_SECONDS, print)]
    monitor.stop(consumer)
    monitor.stop(consumer)
    assert calls[1:] == ["cancelled"]


def test_a_child_that_was_seen_to_die_can_be_registered_again() -> None:
    alive = SimpleNamespace(_sentinel_poll=17)
    new = SimpleNamespace()
    dead = SimpleNamespace(_sentinel_poll=None)
    pool = FakePool(alive, new, dead)
    timer = SimpleNamespace(call_repeatedly=lambda *_: None)

    consumer = a_consumer(timer, pool)
    PoolMonitor(consumer).start(consumer)

    assert alive._sentinel_poll == 17
    assert not hasattr(new, "_sentinel_poll")
    assert dead._sentinel_poll is not None
    readable, _, _ = select.select([dead._sentinel_poll], [], [], 0)
    assert readable == [dead._sentinel_poll], "the event loop sees its end at once"
    os.close(dead._sentinel_poll)


class Child(NamedTuple):
    """A child with a process id, and the exit code that it will have."""

    pid: int
    exitcode: int


def test_the_version_is_named_whose_load_took_too_long(caplog: pytest.LogCaptureFixture) -> None:
    killed, overdue, alive = Child(7, -signal.SIGKILL), Child(8, -signal.SIGALRM), Child(9, -signal.SIGALRM)
    pool = FakePool(killed, overdue, alive)
    consumer = a_consumer(SimpleNamespace(call_repeatedly=lambda *_: None), pool)
    PoolMonitor(consumer).start(consumer)

    pool.dead = {killed, overdue}
    pool.look()
    pool.look()

    assert caplog.messages == ["pool child 8 ended: it loaded m v2 for longer than MODEL_LOAD_SECONDS"]


def test_the_report_of_a_failed_task_fits_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(einfo, "Traceback", einfo.Traceback)
    app = Celery(set_as_current=False)

    @app.task(name="fail", shared=False)  # type: ignore[untyped-decorator]
    def fail() -> None:
        # Nothing listens on that port: redis-py fails some twenty frames down.
        redis.Redis(port=1).register_script("return 1")()

    def report() -> tuple[Any, int]:
        failure = build_tracer("fail", fail, app=app)("id", (), {}, {})[0]
        return failure, len(pickle.dumps(failure))

    assert report()[1] > PIPE_BYTES / 2, "billiard's own report is small now: the patch can go"
    keep_failures_small()
    failure, n_bytes = report()

    # The report of another failed task may still be in the pipe, unread.
    assert n_bytes < PIPE_BYTES / 3
    again = pickle.loads(pickle.dumps(failure))
    assert type(get_pickled_exception(again.exception)).__name__ == "ConnectionError"
    assert "redis" in again.traceback
    assert again.exc_info[0] is redis.ConnectionError


def test_a_child_that_dies_while_the_worker_starts_does_not_end_the_worker() -> None:
    consumer = a_consumer(SimpleNamespace(call_repeatedly=lambda *_: None), FakePool())
    PoolMonitor(consumer).start(consumer)

    assert consumer.pool.did_start_ok()
