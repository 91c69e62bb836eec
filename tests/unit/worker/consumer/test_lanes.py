import pytest

from worker.consumer import lanes
from worker.consumer.lanes import INTERACTIVE_KEEPS_SECONDS, LaneCycle

QUEUES = ["interactive", "bulk", "interactive.iris", "bulk.iris"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(lanes, "monotonic", lambda: now[0])
    return now


def cycle(bulk_slots: int) -> LaneCycle:
    made = LaneCycle(bulk_slots)
    made.update(QUEUES)
    return made


def test_without_interactive_work_bulk_may_have_every_slot(clock: list[float]) -> None:
    queues = cycle(1)
    for tag in "abc":
        queues.take("bulk", tag)
        assert queues.consume(4) == QUEUES


def test_with_interactive_work_bulk_keeps_to_its_share(clock: list[float]) -> None:
    queues = cycle(2)
    queues.take("interactive", "i")
    queues.take("bulk", "a")
    assert queues.consume(4) == QUEUES
    queues.take("bulk.iris", "b")
    assert queues.consume(4) == ["interactive", "interactive.iris"]
    assert queues.release("b")
    assert queues.consume(4) == QUEUES
    assert not queues.release("b"), "once"
    assert not queues.release("i")


def test_the_share_ends_a_while_after_the_last_interactive_entry(clock: list[float]) -> None:
    queues = cycle(1)
    queues.take("bulk", "a")
    queues.take("interactive.iris", "i")
    assert queues.consume(4) == ["interactive", "interactive.iris"]
    clock[0] += INTERACTIVE_KEEPS_SECONDS
    assert queues.consume(4) == QUEUES


def test_queues_take_turns(clock: list[float]) -> None:
    queues = cycle(1)
    queues.rotate("interactive")
    assert queues.consume(4) == ["bulk", "interactive.iris", "bulk.iris", "interactive"]
