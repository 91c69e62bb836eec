import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
import redis

from gateway import background
from gateway.background import BackgroundLoops
from tests.support.coroutines import run, turns, until


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS", "CANCEL_AGAIN_SECONDS"):
        monkeypatch.setattr(background, name, 0.002)


class Steps:
    """A step that fails as often as it was told to, then works."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.taken = 0

    async def __call__(self) -> None:
        self.taken += 1
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)


async def repeated(step: Callable[[], Awaitable[None]], enough: Callable[[], bool]) -> None:
    """Repeat a step until that is enough."""
    loops = BackgroundLoops()
    loops.start("example", step)
    await until("enough steps", enough)
    await loops.stop()


def test_a_step_is_repeated_until_the_stop_and_not_after() -> None:
    async def scenario() -> None:
        steps = Steps()
        await repeated(steps, lambda: steps.taken >= 5)
        taken = steps.taken
        await turns()
        assert steps.taken == taken

    run(scenario())


@pytest.mark.parametrize(
    "failure",
    [redis.ConnectionError("x"), redis.TimeoutError("x"), OSError("x"), asyncio.TimeoutError(), ValueError("a bug")],
)
def test_a_step_that_fails_goes_on(failure: Exception) -> None:
    async def scenario() -> None:
        steps = Steps(failure, failure, failure)
        await repeated(steps, lambda: steps.taken >= 6)

    run(scenario())


def test_other_loops_do_not_notice() -> None:
    async def scenario() -> None:
        loops, good, bad = BackgroundLoops(), Steps(), Steps(*[ValueError()] * 3)
        loops.start("good", good)
        loops.start("bad", bad)
        await until("both go on", lambda: good.taken >= 5 and bad.taken >= 5)
        await loops.stop()

    run(scenario())


def test_an_outage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        steps = Steps(*[redis.ConnectionError("redis://:secret@host")] * 5)
        await repeated(steps, lambda: steps.taken >= 8)

    with caplog.at_level(logging.INFO):
        run(scenario())
    assert caplog.messages == ["example: broker: ConnectionError", "example: works again"]


def test_a_bug_is_logged_with_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        steps = Steps(ZeroDivisionError("a bug"))
        await repeated(steps, lambda: steps.taken >= 2)

    with caplog.at_level(logging.INFO):
        run(scenario())
    assert caplog.messages[0] == "example failed, and goes on"
    assert "ZeroDivisionError: a bug" in caplog.text


def test_a_failing_step_pauses_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(background, "LONGEST_PAUSE_SECONDS", 1.0)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    async def scenario() -> None:
        steps = Steps(*[OSError()] * 6)
        loops = BackgroundLoops()
        monkeypatch.setattr(asyncio, "sleep", noted)
        loops.start("example", steps)
        while steps.taken < 8:
            await sleep(0)
        steps.failures = [OSError()]
        while steps.failures or steps.taken < 10:
            await sleep(0)
        await loops.stop()

    run(scenario())
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 0.1])


def test_stop_ends_a_step_that_waits() -> None:
    async def scenario() -> None:
        started = asyncio.Event()

        async def waits_for_ever() -> None:
            started.set()
            await asyncio.Event().wait()

        loops = BackgroundLoops()
        loops.start("example", waits_for_ever)
        await started.wait()
        await loops.stop()

    run(scenario(), seconds=2)


@pytest.mark.parametrize("what", ["returns", "fails"])
def test_stop_ends_a_loop_even_if_its_step_swallows_the_cancellation(what: str) -> None:
    async def scenario() -> None:
        started, swallowed = asyncio.Event(), 0

        async def swallows() -> None:
            nonlocal swallowed
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed == 2:
                    raise
                swallowed += 1
                if what == "fails":
                    raise asyncio.TimeoutError from None

        loops = BackgroundLoops()
        loops.start("example", swallows)
        await started.wait()
        await loops.stop()
        assert swallowed >= 1

    run(scenario(), seconds=5)


def test_stop_without_loops_is_done_at_once() -> None:
    async def scenario() -> None:
        loops = BackgroundLoops()
        await loops.stop()
        await loops.stop()

    run(scenario(), seconds=1)
