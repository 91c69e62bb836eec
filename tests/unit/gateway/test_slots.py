import asyncio
from typing import Any

import pytest

from gateway.coalescer import Coalescer, WaitingRows
from gateway.settings import GatewaySettings
from gateway.slots import COMMON, Pools, Slots
from shared.clock import BrokerClock
from tests.support.coroutines import run, turns
from tests.support.manifests import classifier
from tests.unit.gateway.fakes import FakeExchange, common


class Sender:
    """Someone with a number of batches to send, who notes each in a log that all share."""

    def __init__(self, model: str, batches: int, log: list[str], takes: bool = True) -> None:
        self.model = model
        self.left = batches
        self._log = log
        self._takes = takes

    def send_next(self, slots: Slots) -> bool:
        if self.left:
            self.left -= 1
            self._log.append(f"{self.model}@{slots.pool}" if slots.pool else self.model)
            if self._takes:
                slots.take()
        return self.left > 0


class Workers:
    """Slots by pool, as workers come and go."""

    def __init__(self, **slots: int) -> None:
        self.slots = {COMMON: slots.pop("everyone", 0), **slots}
        self.pools = Pools(lambda pool: self.slots.get(pool, 0))


def test_those_who_have_more_to_send_take_turns() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(6).of("any")
        for sender in (Sender("a", 4, log), Sender("b", 1, log), Sender("c", 3, log)):
            slots.ask(sender)
        await turns()
        assert log == ["a", "b", "c", "a", "c", "a"]

    run(scenario())


def test_someone_new_comes_before_those_who_had_a_turn() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(1).of("any")
        slots.ask(Sender("greedy", 100, log))
        await turns()
        for name in "ab":
            slots.ask(Sender(name, 1, log))
        for _ in range(4):
            slots.give_back()
            slots.pump()
        assert log == ["greedy", "greedy", "a", "b", "greedy"]

    run(scenario())


def test_asking_twice_gives_no_second_turn() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(3).of("any")
        twice = Sender("a", 2, log)
        slots.ask(twice)
        slots.ask(twice)
        slots.ask(Sender("b", 2, log))
        await turns()
        assert log == ["a", "b", "a"]

    run(scenario())


@pytest.mark.parametrize("total", [0, 1, 2, 7])
def test_never_more_in_flight_than_there_are_slots(total: int) -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(total).of("any")
        for name in "abc":
            slots.ask(Sender(name, 5, log))
        for _ in range(3):
            slots.wake()
            await turns()
        assert len(log) == total
        assert slots.free == 0
        if total:
            slots.give_back()
            slots.wake()
            await turns()
            assert len(log) == total + 1

    run(scenario())


def test_who_has_nothing_to_send_holds_nobody_up() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(1).of("any")
        slots.ask(Sender("gave up", 0, log))
        slots.ask(Sender("b", 1, log))
        await turns()
        assert log == ["b"]

    run(scenario())


def test_nothing_is_sent_before_the_turn_of_the_loop_is_over() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(1).of("any")
        slots.ask(Sender("a", 1, log))
        assert log == []
        await turns()
        assert log == ["a"]

    run(scenario())


def test_when_slots_go_away_nothing_is_sent_until_enough_are_back() -> None:
    async def scenario() -> None:
        log: list[str] = []
        workers = Workers(everyone=3)
        slots = workers.pools.of("any")
        slots.ask(Sender("a", 10, log))
        await turns()
        workers.slots[COMMON] = 1
        assert slots.free == -2
        for sent in (3, 3, 4):
            slots.give_back()
            slots.pump()
            assert len(log) == sent

    run(scenario())


def test_a_model_is_served_by_its_own_workers_while_there_are_any() -> None:
    workers = Workers(everyone=2)
    everyone = workers.pools.of("iris")
    assert everyone is workers.pools.of("sticks")
    assert (everyone.pool, everyone.total) == (COMMON, 2)

    workers.slots["iris"] = 3
    own = workers.pools.of("iris")
    assert (own.pool, own.total) == ("iris", 3)
    assert workers.pools.of("sticks") is everyone

    workers.slots["iris"] = 0
    assert workers.pools.of("iris") is everyone
    workers.slots["iris"] = 1
    assert workers.pools.of("iris") is own, "what is in flight there still counts"


def test_pools_do_not_share_their_slots() -> None:
    async def scenario() -> None:
        log: list[str] = []
        workers = Workers(everyone=1, iris=2)
        for name in ("iris", "sticks"):
            workers.pools.of(name).ask(Sender(name, 5, log))
        await turns()
        assert sorted(log) == ["iris@iris", "iris@iris", "sticks"]

    run(scenario())


@pytest.mark.parametrize(
    ("before", "after", "sent"),
    [
        ({"iris": 1}, {"everyone": 2}, ["iris", "iris"]),
        ({"everyone": 1}, {"iris": 2}, ["iris@iris", "iris@iris"]),
        ({"everyone": 1}, {"everyone": 2, "iris": 1}, ["iris@iris"]),
        ({"everyone": 1}, {}, []),
    ],
)
def test_those_who_wait_go_where_their_model_is_served(
    before: dict[str, int], after: dict[str, int], sent: list[str]
) -> None:
    async def scenario() -> None:
        log: list[str] = []
        workers = Workers(**before)
        pool = workers.pools.of("iris")
        pool.take()  # the only slot is taken, so that the next one waits
        sender = Sender("iris", 2, log)
        pool.ask(sender)
        await turns()
        assert log == []
        pool.give_back()
        workers.slots = Workers(**after).slots
        workers.pools.wake()
        await turns()
        assert log == sent

    run(scenario())


def test_rows_that_wait_for_pinned_workers_that_died_are_sent_to_the_others() -> None:
    async def scenario() -> None:
        workers = Workers(everyone=1, sticks=1)
        exchange = FakeExchange()
        lane = Coalescer(
            classifier(["value"]), exchange, workers.pools, BrokerClock(), WaitingRows(100), GatewaySettings()
        )
        first = asyncio.create_task(lane.predict([[1.0]], 5.0))
        await turns()
        second = asyncio.create_task(lane.predict([[2.0]], 5.0))
        await turns()
        assert exchange.pools == ["sticks"]

        workers.slots["sticks"] = 0
        workers.pools.wake()
        await turns()

        assert exchange.pools == ["sticks", COMMON]
        for message in exchange.published:
            exchange.answer(message)
        assert [answer.result["predictions"] for answer in await asyncio.gather(first, second)] == [[1.0], [2.0]]
        assert [workers.pools.of(name).free for name in ("sticks", "any")] == [1, 1]

    run(scenario())


def test_two_models_share_the_common_slots_fairly_and_the_limit_of_waiting_rows() -> None:
    async def scenario() -> None:
        pools, exchange, everywhere = common(1), FakeExchange(), WaitingRows(4)
        settings = GatewaySettings(batch_rows_max=1)
        clock = BrokerClock()
        lanes = [
            Coalescer(classifier(["value"], name=name), exchange, pools, clock, everywhere, settings)
            for name in ("busy", "quiet")
        ]

        def ask(lane: Coalescer, value: float) -> "asyncio.Task[Any]":
            return asyncio.create_task(lane.predict([[value]], 5.0))

        tasks = [ask(lanes[0], 0.0), ask(lanes[0], 1.0), ask(lanes[0], 2.0)]
        await turns()
        tasks.append(ask(lanes[1], 3.0))
        await turns()
        assert (everywhere.rows, lanes[0].waiting_rows, lanes[1].waiting_rows) == (3, 2, 1)
        await _answer_all(exchange)
        await asyncio.gather(*tasks)
        # After its first batch "busy" queued up again before "quiet" came.
        assert [message.model for message in exchange.published] == ["busy", "busy", "quiet", "busy"]
        assert everywhere.rows == 0

    run(scenario())


async def _answer_all(exchange: FakeExchange) -> None:
    done = 0
    while done < len(exchange.published):
        exchange.answer(exchange.published[done])
        done += 1
        await turns()
