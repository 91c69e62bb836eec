import asyncio
import json
from collections.abc import Callable

import pytest

from demo import burst
from demo.burst import CALLS_FIRST, CALLS_MOST, Burst
from demo.model import Model
from demo.sampler import Sampler
from demo.traffic import Call


class Gateway:
    """Answers with a status."""

    def __init__(self, status: Callable[[int], int]) -> None:
        self.status = status
        self.rows: list[int] = []

    async def __call__(self, call: Call) -> int:
        rows = len(json.loads(call.body)["instances"])
        self.rows.append(rows)
        return self.status(rows)


def spikes(model: Model, gateway: Gateway, number: int) -> list[int]:
    """How many calls each spike has."""

    async def run() -> list[int]:
        made = Burst(Sampler(model, 1, None, 2.5), "", gateway)
        sizes = []
        for _ in range(number):
            before = len(gateway.rows)
            await made.spike(0.0)
            sizes.append(len(gateway.rows) - before)
        return sizes

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burst, "ROWS_MOST", 40)
    monkeypatch.setattr(burst, "VALUES_DRAWN", 20)


def test_spikes_grow_to_a_bound(sticks: Model) -> None:
    gateway = Gateway(lambda _: 200)
    assert spikes(sticks, gateway, 5) == [CALLS_FIRST, 8, 16, 32, CALLS_MOST]
    assert set(gateway.rows) == {40}


@pytest.mark.parametrize("status", [503, 504])
def test_spikes_grow_until_calls_are_turned_away(sticks: Model, status: int) -> None:
    gateway = Gateway(lambda _: status if len(gateway.rows) > CALLS_FIRST else 200)
    assert spikes(sticks, gateway, 4) == [CALLS_FIRST, 8, 8, 8]


@pytest.mark.parametrize("status", [413, 422])
def test_calls_shrink_to_what_a_gateway_takes(sticks: Model, status: int) -> None:
    gateway = Gateway(lambda rows: status if rows > 10 else 200)
    spikes(sticks, gateway, 3)
    assert list(dict.fromkeys(gateway.rows)) == [40, 20, 10]


def test_nothing_is_piled_up_on_who_does_not_answer(sticks: Model) -> None:
    async def run() -> int:
        sent = 0

        async def never(_: Call) -> int:
            nonlocal sent
            sent += 1
            await asyncio.Event().wait()
            return 0

        made = Burst(Sampler(sticks, 1, None, 2.5), "", never)
        waiting = [asyncio.create_task(made.spike(0.0)) for _ in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return sent

    assert asyncio.run(run()) == 2 * CALLS_FIRST


def test_a_body_is_bounded(sticks: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burst, "BODY_MOST_BYTES", 900)
    body = Burst(Sampler(sticks, 1, None, 2.5), "", Gateway(lambda _: 200)).body(0.0)
    assert len(body) < 1_000
    assert 0 < len(json.loads(body)["instances"]) < 40
