import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard import pool as billiard_pool
from celery import signals
from celery.worker import state

from worker.consumer.shutdown import CHILDREN_END_SECONDS, LAST_RESULT_SECONDS, bound_shutdown, is_stopping, run


@pytest.fixture(autouse=True)
def celery_as_it_was() -> Iterator[None]:
    kept = {each: list(each.receivers) for each in (signals.worker_shutting_down, signals.celeryd_after_setup)}
    yield
    for each, receivers in kept.items():
        each.receivers = receivers
    state.should_stop = state.should_terminate = None


@pytest.mark.parametrize("code", [0, 1, os.EX_TEMPFAIL])
def test_a_worker_that_was_asked_to_end_is_stopping(code: int) -> None:
    assert not is_stopping()
    state.should_terminate = False
    assert not is_stopping()
    state.should_stop = code
    assert is_stopping()


class FakeApp:
    """A Celery application whose worker ends at once."""

    def __init__(self, exitcode: int | None, stopped_with: int | None = None) -> None:
        self._exitcode = exitcode
        self._stopped_with = stopped_with
        self.arguments: list[str] = []

    def worker_main(self, arguments: list[str]) -> None:
        self.arguments = arguments
        signals.celeryd_after_setup.send(sender="w", instance=SimpleNamespace(exitcode=self._exitcode), conf=None)
        state.should_stop = self._stopped_with


@pytest.mark.parametrize(
    ("exitcode", "stopped_with", "code"),
    [(None, None, 0), (0, 0, 0), (1, None, 1), (None, os.EX_TEMPFAIL, os.EX_TEMPFAIL), (0, 1, 1)],
)
def test_the_exit_code_is_what_stopped_the_worker(exitcode: int | None, stopped_with: int | None, code: int) -> None:
    app: Any = FakeApp(exitcode, stopped_with)

    assert run(app, ["worker"]) == code
    assert app.arguments == ["worker"]


class FakeTimer:
    """A `threading.Timer` that is only recorded."""

    made: list["FakeTimer"]

    def __init__(self, seconds: float, function: Any, args: tuple[Any, ...]) -> None:
        self.call = (seconds, function, args)
        self.daemon = False
        self.started = False
        self.made.append(self)

    def start(self) -> None:
        self.started = True


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[FakeTimer]:
    FakeTimer.made = []
    monkeypatch.setattr(threading, "Timer", FakeTimer)
    return FakeTimer.made


def test_from_the_first_sigterm_on_batches_have_so_long(timers: list[FakeTimer]) -> None:
    bound_shutdown(7.5)
    assert timers == []

    signals.worker_shutting_down.send(sender=None, sig="SIGTERM", how="Warm", exitcode=0)

    drain, kill = timers
    assert drain.call == (7.5, os.kill, (os.getpid(), signal.SIGQUIT))
    assert kill.call[0] == 7.5 + CHILDREN_END_SECONDS
    assert all(timer.started for timer in timers)
    assert all(timer.daemon for timer in timers), "a worker that is done earlier ends earlier"


def test_a_child_that_ignores_the_end_is_killed(timers: list[FakeTimer], monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        monkeypatch.setattr("worker.consumer.shutdown.active_children", lambda: [SimpleNamespace(pid=child.pid)])
        bound_shutdown(7.5)
        signals.worker_shutting_down.send(sender=None, sig="SIGTERM", how="Warm", exitcode=0)

        _, kill, args = timers[1].call
        kill(*args)

        assert child.wait(60) == -signal.SIGKILL
    # One that has ended meanwhile is no error.
    kill(*args)


@pytest.mark.parametrize("how", ["Cold", "Soft"])
def test_the_second_signal_does_not_start_the_time_again(timers: list[FakeTimer], how: str) -> None:
    bound_shutdown(7.5)

    signals.worker_shutting_down.send(sender=None, sig="SIGQUIT", how=how, exitcode=0)

    assert timers == []


def test_a_child_waits_a_second_for_its_last_result_to_be_read() -> None:
    bound_shutdown(7.5)

    tries, seconds = (
        billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT,
        billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL,
    )
    assert tries * seconds == pytest.approx(LAST_RESULT_SECONDS)
