import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from gateway.web.idle_timer import IdleTimer
from tests.support.coroutines import run


class FakeTimer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """An event loop whose clock a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        self.timers.append(FakeTimer(when, callback))
        return self.timers[-1]

    def pass_to(self, now: float) -> None:
        self.now = now
        due = [each for each in self.timers if each.due <= now and not each.cancelled]
        self.timers = [each for each in self.timers if each not in due]
        for each in due:
            each.call()


@pytest.fixture
def loop() -> Any:
    return FakeLoop()


def test_a_connection_that_stays_idle_is_ended_once(loop: Any) -> None:
    ended: list[float] = []
    timer = IdleTimer(loop, 5.0, lambda: ended.append(loop.now)).start()
    assert timer.when() == 105.0
    loop.pass_to(104.0)
    assert ended == []
    loop.pass_to(105.0)
    loop.pass_to(200.0)
    assert ended == [105.0]


def test_the_time_begins_anew_with_each_answer(loop: Any) -> None:
    ended: list[float] = []
    timer = IdleTimer(loop, 5.0, lambda: ended.append(loop.now))
    for now in (100.0, 102.0, 104.0):
        loop.pass_to(now)
        timer.cancel()
        timer.start()
    assert len(loop.timers) == 1
    loop.pass_to(105.0)
    assert ended == []
    loop.pass_to(109.0)
    assert ended == [109.0]


def test_a_connection_with_a_request_is_not_idle(loop: Any) -> None:
    timer = IdleTimer(loop, 5.0, pytest.fail).start()
    timer.cancel()
    assert timer.when() is None
    loop.pass_to(200.0)
    assert loop.timers == []
    assert timer.start().when() == 205.0


def test_a_closed_timer_keeps_nothing_in_memory() -> None:
    class Owner:
        def end(self) -> None: ...

    async def scenario() -> None:
        owner = Owner()
        timer = IdleTimer(asyncio.get_running_loop(), 60.0, owner.end).start()
        gone = weakref.ref(owner)
        timer.close()
        del owner
        gc.collect()
        assert gone() is None

    run(scenario())
