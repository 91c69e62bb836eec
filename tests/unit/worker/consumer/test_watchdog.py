import faulthandler
import logging
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.worker import state
from fakeredis import FakeRedis, FakeServer

from shared.queue import keys
from shared.queue.heartbeat import STALLED
from worker.consumer import watchdog
from worker.consumer.shutdown import is_stopping
from worker.consumer.watchdog import CHECK_SECONDS, EXIT_CODE, STOP_SECONDS, Pulse, Silence, Watchdog

IDLE_SECONDS, BUSY_SECONDS, DRAIN_SECONDS = 60, 90, 20


class Watched:
    """The silence of a worker that consumes as a test says, checked once a second of a clock of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.signs = 0
        self.busy = False
        self.silence = Silence(IDLE_SECONDS, BUSY_SECONDS, lambda: self.now)

    def checks(self, times: int, consumes: bool = False) -> bool:
        """Check so many times; return True if it was stalled at any of them."""
        return any([self._check(consumes) for _ in range(times)])

    def _check(self, consumes: bool) -> bool:
        self.now += CHECK_SECONDS
        self.signs += consumes
        return self.silence.is_too_long(self.signs, self.busy)


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    assert not watched.checks(1)
    return watched


def test_a_worker_that_consumes_is_never_stalled(watched: Watched) -> None:
    assert not watched.checks(1000, consumes=True)


def test_an_idle_worker_that_does_not_is_stalled_after_its_time(watched: Watched) -> None:
    assert not watched.checks(IDLE_SECONDS - 1)
    assert watched.checks(1)


def test_any_sign_starts_the_time_anew(watched: Watched) -> None:
    watched.checks(IDLE_SECONDS - 1)
    watched.checks(1, consumes=True)
    assert not watched.checks(IDLE_SECONDS - 1)
    assert watched.checks(1)


def test_busy_children_may_take_as_long_as_a_task_may(watched: Watched) -> None:
    watched.busy = True
    assert not watched.checks(BUSY_SECONDS - 1)
    assert watched.checks(1)


def test_a_child_that_becomes_idle_late_leaves_time_to_poll(watched: Watched) -> None:
    watched.busy = True
    watched.checks(BUSY_SECONDS - 3)
    watched.busy = False
    assert not watched.checks(2)
    watched.checks(1, consumes=True)
    assert not watched.checks(IDLE_SECONDS - 1)


@pytest.mark.parametrize("jump_seconds", [3600.0, 1e9])
def test_a_process_that_stood_still_is_not_stalled(watched: Watched, jump_seconds: float) -> None:
    """SIGSTOP and SIGCONT, or a machine that slept: the event loop could not do anything either."""
    for _ in range(10):
        watched.now += jump_seconds
        assert not watched.checks(1)
    watched.checks(1, consumes=True)
    assert not watched.checks(IDLE_SECONDS - 1)


def test_a_poll_of_all_queues_is_a_sign_and_so_is_a_search_for_the_broker() -> None:
    pulse = Pulse(2)
    pulse.polled(2)
    assert pulse.beats == 1
    pulse.polled(1)
    pulse.polled(0)
    assert pulse.beats == 1, "half a worker"
    pulse.connecting()
    assert pulse.beats == 2


@pytest.fixture
def worker_state() -> Iterator[None]:
    receivers = list(signals.worker_shutting_down.receivers)
    yield
    state.should_stop = state.should_terminate = None
    signals.worker_shutting_down.receivers = receivers


class Ended(Exception):
    """Raised in place of the end of the process."""


class End:
    """The ways in which the watchdog ends its worker, recorded instead of done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[Any] = []
        self.hangs = False
        monkeypatch.setattr(
            faulthandler, "dump_traceback_later", lambda seconds, **_: self.done.append(("dump", seconds))
        )
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.done.append(("kill", pid, number)))
        monkeypatch.setattr(os, "_exit", self._exit)
        monkeypatch.setattr(watchdog, "live_children", lambda pid: [11, 12] if pid == os.getpid() else [])
        signals.worker_shutting_down.connect(self._on_shutdown, weak=False)

    def _on_shutdown(self, how: str, exitcode: int, **_: Any) -> None:
        self.done.append((how, exitcode))

    def _sleep(self, seconds: float) -> None:
        # The main thread has raised WorkerShutdown meanwhile, and with it the process ends.
        if is_stopping() and not self.hangs:
            raise Ended
        self.done.append(("sleep", seconds))

    def _exit(self, code: int) -> None:
        self.done.append(("exit", code))
        raise Ended


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch, worker_state: None) -> End:
    return End(monkeypatch)


def stalled(broker: FakeServer) -> tuple[Watchdog, Any]:
    settings = SimpleNamespace(
        worker_stalled_seconds=-1.0,
        task_time_limit_seconds=30.0,
        worker_drain_seconds=DRAIN_SECONDS,
        worker_concurrency=2,
        redis_url="redis://",
    )
    conf = SimpleNamespace(broker_transport_options={"pulse": Pulse(2)})
    consumer = SimpleNamespace(app=SimpleNamespace(headrace_settings=settings, conf=conf), hostname="worker@here")
    return Watchdog(consumer), consumer


def test_a_stalled_worker_stops_as_after_a_sigterm(
    end: End, broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    dog, consumer = stalled(broker)
    with caplog.at_level(logging.ERROR), pytest.raises(Ended):
        dog._watch(consumer)

    assert end.done == [("sleep", CHECK_SECONDS), ("dump", DRAIN_SECONDS + 2 * STOP_SECONDS), ("Warm", EXIT_CODE)]
    assert state.should_stop == EXIT_CODE != 0
    assert FakeRedis(server=broker).hget(keys.WORKER_COUNTS, STALLED) == b"1"
    [line] = caplog.messages
    assert line.startswith("stalled: nothing was consumed for")
    # This very test is the main thread.
    assert "watchdog.py:" in line


def test_one_whose_event_loop_hangs_is_ended_by_force_with_its_children(end: End, broker: FakeServer) -> None:
    end.hangs = True
    dog, consumer = stalled(broker)
    with pytest.raises(Ended):
        dog._watch(consumer)

    assert end.done[3:] == [
        ("sleep", DRAIN_SECONDS + STOP_SECONDS),
        ("kill", 11, 9),
        ("kill", 12, 9),
        ("exit", EXIT_CODE),
    ]


def test_it_ends_without_a_broker_too(end: End, broker: FakeServer) -> None:
    broker.connected = False
    dog, consumer = stalled(broker)
    with pytest.raises(Ended):
        dog._watch(consumer)
    assert state.should_stop == EXIT_CODE


def test_a_worker_that_stops_is_not_watched(end: End, broker: FakeServer) -> None:
    dog, consumer = stalled(broker)
    state.should_stop = 0
    dog._watch(consumer)
    assert end.done == []


def test_a_new_connection_needs_no_second_thread(
    broker: FakeServer, monkeypatch: pytest.MonkeyPatch, worker_state: None
) -> None:
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    dog, consumer = stalled(broker)
    dog.start(consumer)
    dog.start(consumer)
    assert len(started) == 1
    assert started[0].daemon, "it keeps no worker from ending"
