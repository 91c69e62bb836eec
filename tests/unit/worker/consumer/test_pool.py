import inspect
import os
import pickle
import select
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from billiard import einfo
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.concurrency.asynpool import AsynPool
from celery.utils.serialization import get_pickled_exception

from worker.consumer.pool import LOOK_SECONDS, PoolMonitor, bound_shutdown, keep_failures_small

PIPE_BYTES = 65_536


class FakeTimer:
    """A `threading.Timer` that is only noted."""

    made: list["FakeTimer"]

    def __init__(self, seconds: float, function: Any, args: tuple[Any, ...]) -> None:
        self.what = (seconds, function, args)
        self.daemon = False
        self.started = False
        self.made.append(self)

    def start(self) -> None:
        self.started = True


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeTimer]]:
    FakeTimer.made = []
    monkeypatch.setattr(threading, "Timer", FakeTimer)
    receivers = list(signals.worker_shutting_down.receivers)
    yield FakeTimer.made
    signals.worker_shutting_down.receivers = receivers


def test_from_the_first_sigterm_on_batches_have_so_long(timers: list[FakeTimer]) -> None:
    bound_shutdown(7.5)
    assert timers == []

    signals.worker_shutting_down.send(sender=None, sig="SIGTERM", how="Warm", exitcode=0)

    [timer] = timers
    assert timer.what == (7.5, os.kill, (os.getpid(), signal.SIGQUIT))
    assert timer.started
    assert timer.daemon, "a worker that is done earlier ends earlier"


@pytest.mark.parametrize("how", ["Cold", "Soft"])
def test_the_second_signal_does_not_start_it_anew(timers: list[FakeTimer], how: str) -> None:
    bound_shutdown(7.5)

    signals.worker_shutting_down.send(sender=None, sig="SIGQUIT", how=how, exitcode=0)

    assert timers == []


def test_dead_children_are_looked_for_while_the_worker_consumes() -> None:
    calls: list[Any] = []
    entry = SimpleNamespace(cancel=lambda: calls.append("cancelled"))

    def call_repeatedly(*what: Any) -> Any:
        calls.append(what)
        return entry

    timer = SimpleNamespace(call_repeatedly=call_repeatedly)
    consumer = SimpleNamespace(timer=timer, pool=SimpleNamespace(_pool=SimpleNamespace(maintain_pool=print, _pool=[])))
    watch = PoolMonitor(consumer)

    watch.start(consumer)
    assert calls == [(LOOK_SECONDS, print)]
    watch.stop(consumer)
    watch.stop(consumer)
    assert calls[1:] == ["cancelled"]


def test_a_child_that_was_seen_to_die_can_be_registered_again() -> None:
    alive = SimpleNamespace(_sentinel_poll=17)
    new = SimpleNamespace()
    dead = SimpleNamespace(_sentinel_poll=None)
    pool = SimpleNamespace(maintain_pool=print, _pool=[alive, new, dead])
    timer = SimpleNamespace(call_repeatedly=lambda *_: None)

    consumer = SimpleNamespace(timer=timer, pool=SimpleNamespace(_pool=pool))
    PoolMonitor(consumer).start(consumer)

    assert alive._sentinel_poll == 17
    assert not hasattr(new, "_sentinel_poll")
    assert dead._sentinel_poll is not None
    readable, _, _ = select.select([dead._sentinel_poll], [], [], 0)
    assert readable == [dead._sentinel_poll], "its end is told at once"
    os.close(dead._sentinel_poll)


def test_that_is_what_celery_needs() -> None:
    source = inspect.getsource(AsynPool._track_child_process)
    assert "fd = proc._sentinel_poll\n" in source


def test_what_is_told_of_a_failed_task_fits_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(einfo, "Traceback", einfo.Traceback)
    app = Celery(set_as_current=False)

    @app.task(name="fail", shared=False)  # type: ignore[untyped-decorator]
    def fail() -> None:
        # Nobody listens there: redis-py fails some twenty frames down.
        redis.Redis(port=1).register_script("return 1")()

    def told() -> tuple[Any, int]:
        failure = build_tracer("fail", fail, app=app)("id", (), {}, {})[0]
        return failure, len(pickle.dumps(failure))

    assert told()[1] > PIPE_BYTES / 2, "billiard is to blame no more"
    keep_failures_small()
    failure, n_bytes = told()

    # Beside the failure of another task, which was not read yet.
    assert n_bytes < PIPE_BYTES / 3
    again = pickle.loads(pickle.dumps(failure))
    assert type(get_pickled_exception(again.exception)).__name__ == "ConnectionError"
    assert "redis" in again.traceback
    assert again.exc_info[0] is redis.ConnectionError
