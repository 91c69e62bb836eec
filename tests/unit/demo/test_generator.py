"""The pace: open-loop, bounded, and ended at will. The gateway is a function that answers when it likes."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine

import httpx
import pytest

from demo import generator
from demo.burst import Burst
from demo.generator import Generator
from demo.model import Model
from demo.sampler import Sampler
from demo.scenario import Scenario
from demo.sender import Sender
from demo.tally import Tally
from demo.traffic import Traffic
from tests.support import coroutines
from tests.support.coroutines import until

Answer = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


async def ok(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


async def never(_: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    return httpx.Response(200)


def run(
    model: Model, answer: Answer, use: Callable[[Generator, Tally], Awaitable[None]], seconds: float = math.inf
) -> Tally:
    """Start a generator, do something with it, and wait for its end."""

    async def all_of_it() -> Tally:
        transport, tally, scenario = httpx.MockTransport(answer), Tally(), Scenario(burst_every=0)
        async with httpx.AsyncClient(base_url="http://gateway", transport=transport) as client:
            sampler, sender = Sampler(model, 1, None, 2.5), Sender(client, tally)
            traffic = Traffic(model, sampler, 1, 0, 0)
            made = Generator(traffic, Burst(sampler, "", sender.send), sender, tally, scenario, 2_000, 1)
            running = asyncio.create_task(made.run(seconds))
            await use(made, tally)
            await running
        return tally

    return coroutines.run(all_of_it(), 20)


def test_it_sends_until_it_is_ended_and_waits_for_answers(sticks: Model) -> None:
    async def end_soon(made: Generator, tally: Tally) -> None:
        await until("calls", lambda: tally.outcomes()["ok"] >= 20)
        made.end()

    assert run(sticks, ok, end_soon).outcomes()["ok"] >= 20


def test_the_time_is_over_by_itself(sticks: Model) -> None:
    async def nothing(made: Generator, tally: Tally) -> None:
        pass

    run(sticks, ok, nothing, seconds=0.05)


def test_without_answers_calls_are_held_back_and_whoever_hurries_need_not_wait(
    sticks: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "DRAIN_SECONDS", 1_000.0)

    async def hurry(made: Generator, tally: Tally) -> None:
        await until("calls", lambda: tally.held_back > 0)
        assert made.on_their_way == generator.ON_THEIR_WAY_MOST
        made.end()
        made.end()

    assert sum(run(sticks, never, hurry).outcomes().values()) == 0


def test_who_hears_nothing_counts_as_failed(sticks: Model) -> None:
    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async def end_soon(made: Generator, tally: Tally) -> None:
        await until("calls", lambda: tally.outcomes()["failed"] >= 3)
        made.end()

    assert set(run(sticks, refuse, end_soon).calls) <= {("one row", "failed"), ("many rows", "failed")}


def test_a_bug_ends_it_and_is_not_hidden(sticks: Model) -> None:
    async def broken(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    async def nothing(made: Generator, tally: Tally) -> None:
        pass

    with pytest.raises(ZeroDivisionError):
        run(sticks, broken, nothing)
