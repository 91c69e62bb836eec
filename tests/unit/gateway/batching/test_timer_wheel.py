import asyncio

from gateway.batching.timer_wheel import TICK_SECONDS, Deadlines
from tests.support.coroutines import run, until


def test_calls_expire_in_the_order_of_their_deadlines_and_never_early() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        expired: list[tuple[str, float]] = []
        deadlines = Deadlines[str](lambda call: expired.append((call, loop.time() - started)))

        deadlines.watch("later", 0.05)
        deadlines.watch("sooner", 0.01)
        await until("both expired", lambda: len(expired) == 2)

        assert [call for call, _ in expired] == ["sooner", "later"]
        for (_, seconds), asked in zip(expired, (0.01, 0.05), strict=True):
            assert seconds >= asked - TICK_SECONDS / 100

    run(scenario())


def test_a_call_that_ended_does_not_expire_and_may_be_forgotten_twice() -> None:
    async def scenario() -> None:
        expired: list[str] = []
        deadlines = Deadlines[str](expired.append)

        tick = deadlines.watch("answered", 0.01)
        deadlines.forget("answered", tick)
        deadlines.watch("late", 0.02)
        await until("one expired", lambda: bool(expired))
        deadlines.forget("answered", tick)

        assert expired == ["late"]

    run(scenario())


def test_it_watches_again_after_it_had_nothing_to_watch() -> None:
    async def scenario() -> None:
        expired: list[str] = []
        deadlines = Deadlines[str](expired.append)

        deadlines.watch("first", 0.01)
        await until("expired", lambda: expired == ["first"])
        await asyncio.sleep(3 * TICK_SECONDS)
        deadlines.watch("second", 0.01)
        await until("expired", lambda: expired == ["first", "second"])

    run(scenario())
