import asyncio
import time

import pytest

from gateway.errors import Overloaded
from gateway.fairness.turns import OwnerTurns, SharedWork
from tests.support.coroutines import run, turns, until


class Work:
    """Work that is done in turns, until it may end."""

    def __init__(self, turns: OwnerTurns) -> None:
        self._turns = turns
        self.may_end = asyncio.Event()
        self.order: list[str] = []
        self.at_once = 0

    async def do(self, owner: str) -> None:
        async with self._turns.of(owner):
            self.order.append(owner)
            self.at_once += 1
            await self.may_end.wait()
            self.at_once -= 1


async def begun(work: Work, owners: str) -> "list[asyncio.Task[None]]":
    tasks = [asyncio.create_task(work.do(owner)) for owner in owners]
    await turns()
    return tasks


ORDER = {1: "bacbaa", 2: "bcabaa", 4: "bcbaaa"}
"""Owners of the turns after those of the first owner, by the number of turns at a time: who had one goes last."""


@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("pauses", [False, True])
def test_so_many_have_a_turn_at_a_time_the_owners_in_rotation(at_once: int, pauses: bool) -> None:
    async def scenario() -> None:
        work = Work(OwnerTurns(at_once, pauses))
        tasks = await begun(work, "a" * at_once + "aaabbc")
        assert work.at_once == at_once
        work.may_end.set()
        await asyncio.gather(*tasks)
        assert "".join(work.order) == "a" * at_once + ORDER[at_once]
        await until("all turns are free again", lambda: work._turns._free == at_once)

    run(scenario())


def test_a_caller_who_leaves_or_fails_keeps_no_turn() -> None:
    async def scenario() -> None:
        owner_turns = OwnerTurns()
        work = Work(owner_turns)
        first, waiting, called, last = await begun(work, "aaaa")
        waiting.cancel()
        first.cancel()
        await until("its turn is passed on", first.done)
        called.cancel()
        work.may_end.set()
        await last
        for left in (first, waiting, called):
            with pytest.raises(asyncio.CancelledError):
                await left
        with pytest.raises(ZeroDivisionError):
            async with owner_turns.of("a"):
                _ = 1 // 0
        async with owner_turns.of("b"):
            pass

    run(scenario())


def test_a_caller_who_is_called_and_leaves_at_once_passes_the_turn_on() -> None:
    async def scenario() -> None:
        work = Work(OwnerTurns())
        async with work._turns.of("a"):
            called, last = await begun(work, "aa")
        called.cancel()
        work.may_end.set()
        await last
        assert work.order == ["a"]

    run(scenario())


def test_whoever_waits_too_long_is_refused_and_leaves_no_trace() -> None:
    async def scenario() -> None:
        work = Work(OwnerTurns(wait_max_seconds=0.01))
        [first] = await begun(work, "a")
        for owner in "ab":
            with pytest.raises(Overloaded):
                await work.do(owner)
        work.may_end.set()
        await first
        await work.do("c")
        assert work.order == ["a", "c"]

    run(scenario())


def test_a_pause_is_as_long_as_the_turn_before_it() -> None:
    async def scenario() -> None:
        owner_turns = OwnerTurns(pauses=True)
        async with owner_turns.of(""):
            began_at = time.perf_counter()
            await asyncio.sleep(0.02)
            # The turn lasts a little longer than between these two.
            ended_at = time.perf_counter()
        async with owner_turns.of(""):
            assert time.perf_counter() - ended_at >= 0.9 * (ended_at - began_at)

    run(scenario())


def test_a_caller_may_wait_for_a_shorter_time_than_others() -> None:
    async def scenario() -> None:
        owner_turns = OwnerTurns(wait_max_seconds=60.0)
        async with owner_turns.of("a"):
            with pytest.raises(Overloaded):
                async with owner_turns.of("a", 0.01):
                    pass

    run(scenario())


def test_all_who_ask_before_work_begins_share_its_result() -> None:
    async def scenario() -> None:
        results = iter(range(10))
        shared = SharedWork(lambda: next(results))
        first = await asyncio.gather(*(shared.result() for _ in range(5)))
        second = await asyncio.gather(*(shared.result() for _ in range(5)))
        assert (first, second) == ([0] * 5, [1] * 5)

    run(scenario())


def test_shared_work_that_fails_fails_for_all_and_is_tried_again() -> None:
    async def scenario() -> None:
        results = iter(["x", "1"])
        shared = SharedWork(lambda: int(next(results)))
        failed = await asyncio.gather(shared.result(), shared.result(), return_exceptions=True)
        assert [type(each) for each in failed] == [ValueError] * 2
        assert await shared.result() == 1

    run(scenario())


def test_who_asks_for_shared_work_and_leaves_does_not_end_it() -> None:
    async def scenario() -> None:
        shared = SharedWork(lambda: 1)
        leaving, staying = asyncio.ensure_future(shared.result()), asyncio.ensure_future(shared.result())
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 1

    run(scenario())


def test_shared_work_pauses_as_long_as_it_takes() -> None:
    async def scenario() -> None:
        ended_at: list[float] = []

        def work() -> float:
            began_at = time.perf_counter()
            while time.perf_counter() < began_at + 0.02:
                pass
            ended_at.append(time.perf_counter())
            return began_at

        shared = SharedWork(work)
        began_at = await shared.result()
        assert await shared.result() - ended_at[0] >= 0.9 * (ended_at[0] - began_at)

    run(scenario())
