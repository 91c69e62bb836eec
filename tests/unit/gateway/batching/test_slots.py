import asyncio
from typing import Any

import pytest

from gateway.batching.batcher import Batcher
from gateway.batching.slots import QUICK_KEEPS_SECONDS, Permit, Slots, WorkerGroups
from gateway.broker.workers import Work
from gateway.fairness.budget import Budget
from gateway.settings import GatewaySettings
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import COMMON_GROUP
from tests.support.coroutines import run, turns
from tests.support.manifests import classifier
from tests.unit.gateway.fakes import FakeBatchClient, FakeWorkers, common, predicted


class Sender:
    """A model with a number of batches to send; each is noted in a log that all senders share."""

    def __init__(self, model: str, batches: int, log: list[str], slow: bool = False) -> None:
        self.model = model
        self.slow = slow
        self.left = batches
        self.permits: list[Permit] = []
        self._log = log

    def send_next(self, slots: Slots) -> bool:
        if self.left:
            self.left -= 1
            self._log.append(f"{self.model}@{slots.worker_group}" if slots.worker_group else self.model)
            self.permits.append(slots.issue_permit(self.slow))
        return self.left > 0


def give_one_back(senders: list[Sender]) -> None:
    """Answer a batch of the first sender that has one in flight."""
    permit = next(sender for sender in senders if sender.permits).permits.pop(0)
    permit.give_back()
    permit.slots.send_batches()


def test_those_who_have_more_to_send_take_turns() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(6).serving("any")
        for sender in (Sender("a", 4, log), Sender("b", 1, log), Sender("c", 3, log)):
            slots.request_turn(sender)
        await turns()
        assert log == ["a", "b", "c", "a", "c", "a"]

    run(scenario())


def test_someone_new_comes_before_those_who_had_a_turn() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(1).serving("any")
        senders = [Sender("greedy", 100, log), Sender("a", 1, log), Sender("b", 1, log)]
        slots.request_turn(senders[0])
        await turns()
        for sender in senders[1:]:
            slots.request_turn(sender)
        for _ in range(4):
            give_one_back(senders)
        assert log == ["greedy", "greedy", "a", "b", "greedy"]

    run(scenario())


def test_asking_twice_gives_no_second_turn() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(3).serving("any")
        twice = Sender("a", 2, log)
        slots.request_turn(twice)
        slots.request_turn(twice)
        slots.request_turn(Sender("b", 2, log))
        await turns()
        assert log == ["a", "b", "a"]

    run(scenario())


@pytest.mark.parametrize("total", [0, 1, 2, 7])
def test_never_more_in_flight_than_there_are_slots(total: int) -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(total).serving("any")
        senders = [Sender(name, 5, log) for name in "abc"]
        for sender in senders:
            slots.request_turn(sender)
        for _ in range(3):
            slots.schedule_sending()
            await turns()
        assert len(log) == total
        assert slots.free == 0
        if total:
            give_one_back(senders)
            assert len(log) == total + 1

    run(scenario())


def test_who_has_nothing_to_send_holds_nobody_up() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(1).serving("any")
        slots.request_turn(Sender("gave up", 0, log))
        slots.request_turn(Sender("b", 1, log))
        await turns()
        assert log == ["b"]

    run(scenario())


def test_nothing_is_sent_before_the_turn_of_the_loop_is_over() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(1).serving("any")
        slots.request_turn(Sender("a", 1, log))
        assert log == []
        await turns()
        assert log == ["a"]

    run(scenario())


def test_when_slots_go_away_nothing_is_sent_until_enough_are_back() -> None:
    async def scenario() -> None:
        log: list[str] = []
        workers = FakeWorkers(3)
        slots = WorkerGroups(workers).serving("any")
        sender = Sender("a", 10, log)
        slots.request_turn(sender)
        await turns()
        workers.common = 1
        assert slots.free == -2
        for sent in (3, 3, 4):
            give_one_back([sender])
            assert len(log) == sent

    run(scenario())


def test_slow_models_leave_one_slot_free_while_quick_ones_are_about() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(3).serving("any")
        slow, other = Sender("slow", 9, log, slow=True), Sender("other slow", 9, log, slow=True)
        quick = Sender("quick", 2, log)
        slots.request_turn(slow)
        await turns()
        assert log == ["slow", "slow", "slow"], "alone it may take all"
        slots.request_turn(quick)
        slots.request_turn(other)
        log.clear()
        for _ in range(3):
            give_one_back([slow])
        assert sorted(log) == ["other slow", "quick", "slow"]
        give_one_back([quick])
        give_one_back([quick])
        assert log[3:] == ["quick"], "slow ones may not take the third slot"
        assert (slots.free, slots.free_for(slow), slots.free_for(quick)) == (1, 0, 1)

    run(scenario())


def test_slow_models_leave_a_slot_besides_those_of_the_bulk_lane() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(4).serving("any")
        slow, quick = Sender("slow", 9, log, slow=True), Sender("quick", 1, log)
        slots.request_turn(quick)
        for n_bulk, free in ((0, 3), (1, 2), (2, 1), (3, 1)):
            slots.follow_workers(Work(busy=n_bulk, overdue=0, bulk=n_bulk, idle=4 - n_bulk))
            assert slots.free_for(slow) == free

    run(scenario())


@pytest.mark.parametrize(("held", "on_time", "kept"), [(3, 0, 3), (2, 0, 2), (2, 1, 1), (1, 2, 0), (0, 0, 0)])
def test_as_many_late_batches_count_as_workers_may_hold(
    held: int, on_time: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("gateway.batching.slots.LATE_CHECKED_SECONDS", -1.0)
        slots = common(9).serving("any")
        for _ in range(3):
            slots.issue_permit(slow=False).mark_late()
        for _ in range(on_time):
            slots.issue_permit(slow=False)
        slots.follow_workers(Work(busy=held, overdue=0, bulk=0, idle=9 - held))
        assert 9 - slots.free == kept + on_time

    run(scenario())


def test_when_no_quick_model_was_about_for_a_while_slow_ones_take_all_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(2).serving("any")
        quick = Sender("quick", 1, log)
        slots.request_turn(quick)
        slots.request_turn(Sender("slow", 9, log, slow=True))
        await turns()
        give_one_back([quick])
        assert log == ["quick", "slow"]

        loop = asyncio.get_running_loop()
        later = loop.time() + QUICK_KEEPS_SECONDS
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda: later)
            slots.send_batches()
        assert log == ["quick", "slow", "slow"]

    run(scenario())


def test_the_only_slot_is_for_everyone() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(1).serving("any")
        senders = [Sender("quick", 2, log), Sender("slow", 2, log, slow=True)]
        for sender in senders:
            slots.request_turn(sender)
        await turns()
        for _ in range(3):
            give_one_back(senders)
        assert log == ["quick", "slow", "quick", "slow"]

    run(scenario())


def test_a_model_is_served_by_its_own_workers_while_there_are_any() -> None:
    workers = FakeWorkers(2)
    worker_groups = WorkerGroups(workers)
    everyone = worker_groups.serving("iris")
    assert everyone is worker_groups.serving("sticks")
    assert (everyone.worker_group, everyone.total) == (COMMON_GROUP, 2)

    workers.pinned["iris"] = 3
    own = worker_groups.serving("iris")
    assert (own.worker_group, own.total) == ("iris", 3)
    assert worker_groups.serving("sticks") is everyone

    workers.pinned["iris"] = 0
    assert worker_groups.serving("iris") is everyone
    workers.pinned["iris"] = 1
    assert worker_groups.serving("iris") is own, "what is in flight there still counts"


def test_worker_groups_do_not_share_their_slots() -> None:
    async def scenario() -> None:
        log: list[str] = []
        worker_groups = WorkerGroups(FakeWorkers(1, iris=2))
        for name in ("iris", "sticks"):
            worker_groups.serving(name).request_turn(Sender(name, 5, log))
        await turns()
        assert sorted(log) == ["iris@iris", "iris@iris", "sticks"]

    run(scenario())


@pytest.mark.parametrize(
    ("before", "after", "sent"),
    [
        ({"common": 0, "iris": 1}, {"common": 2}, ["iris", "iris"]),
        ({"common": 1}, {"iris": 2}, ["iris@iris", "iris@iris"]),
        ({"common": 1}, {"common": 2, "iris": 1}, ["iris@iris"]),
        ({"common": 1}, {}, []),
    ],
)
def test_those_who_wait_go_where_their_model_is_served(
    before: dict[str, int], after: dict[str, int], sent: list[str]
) -> None:
    async def scenario() -> None:
        log: list[str] = []
        workers = FakeWorkers(**before)
        worker_groups = WorkerGroups(workers)
        slots = worker_groups.serving("iris")
        sender = Sender("iris", 2, log)
        permit = slots.issue_permit(sender.slow)  # the only slot is taken, so that the next one waits
        slots.request_turn(sender)
        await turns()
        assert log == []
        permit.give_back()
        workers.common, workers.pinned = after.pop("common", 0), after
        worker_groups.follow_workers()
        await turns()
        assert log == sent

    run(scenario())


def test_rows_that_wait_for_pinned_workers_that_died_are_sent_to_the_others() -> None:
    async def scenario() -> None:
        workers = FakeWorkers(1, sticks=1)
        worker_groups = WorkerGroups(workers)
        batch_client = FakeBatchClient()
        lane = Batcher(
            classifier(["value"]),
            batch_client,
            worker_groups,
            BrokerClock(),
            Budget(100),
            GatewaySettings(),
        )
        first = asyncio.create_task(predicted(lane, [[1.0]], 5.0))
        await turns()
        second = asyncio.create_task(predicted(lane, [[2.0]], 5.0))
        await turns()
        assert batch_client.worker_groups == ["sticks"]

        workers.pinned["sticks"] = 0
        worker_groups.follow_workers()
        await turns()

        assert batch_client.worker_groups == ["sticks", COMMON_GROUP]
        for message in batch_client.published:
            batch_client.answer(message)
        assert [answer.result["predictions"] for answer in await asyncio.gather(first, second)] == [[1.0], [2.0]]
        assert [worker_groups.serving(name).free for name in ("sticks", "any")] == [1, 1]

    run(scenario())


def test_two_models_share_the_common_slots_fairly_and_the_limit_of_waiting_rows() -> None:
    async def scenario() -> None:
        worker_groups, batch_client, all_models = common(1), FakeBatchClient(), Budget(4)
        settings = GatewaySettings(batch_rows_max=1)
        clock = BrokerClock()
        lanes = [
            Batcher(classifier(["value"], name=name), batch_client, worker_groups, clock, all_models, settings)
            for name in ("busy", "quiet")
        ]

        def ask(lane: Batcher, value: float) -> "asyncio.Task[Any]":
            return asyncio.create_task(predicted(lane, [[value]], 5.0))

        tasks = [ask(lanes[0], 0.0), ask(lanes[0], 1.0), ask(lanes[0], 2.0)]
        await turns()
        tasks.append(ask(lanes[1], 3.0))
        await turns()
        assert (all_models.held, lanes[0].waiting_rows, lanes[1].waiting_rows) == (3, 2, 1)
        await _answer_all(batch_client)
        await asyncio.gather(*tasks)
        # After its first batch "busy" queued up again before "quiet" came.
        assert [message.model for message in batch_client.published] == ["busy", "busy", "quiet", "busy"]
        assert all_models.held == 0

    run(scenario())


async def _answer_all(batch_client: FakeBatchClient) -> None:
    done = 0
    while done < len(batch_client.published):
        batch_client.answer(batch_client.published[done])
        done += 1
        await turns()


def test_after_a_quick_batch_that_was_late_the_next_one_goes_before_slow_ones() -> None:
    async def scenario() -> None:
        log: list[str] = []
        slots = common(2).serving("any")
        quick, slow = Sender("quick", 9, log), Sender("slow", 9, log, slow=True)
        # Jobs have the other slot of the workers.
        slots.follow_workers(Work(busy=1, overdue=0, bulk=1, idle=1))
        slots.request_turn(slow)
        slots.request_turn(quick)
        await turns()
        assert sorted(log) == ["quick", "slow"]

        log.clear()
        quick.permits[0].mark_late()
        give_one_back([slow])
        assert log == ["quick"], "a worker takes it before the next slow one"
        for _ in range(2):
            give_one_back([quick])
        assert "slow" in log

    run(scenario())
