"""The scaling signal as the gateway computes it: groups, means, waits; and `GET /scaling` without a Redis."""

import math
from pathlib import Path

import pytest

from gateway.admission.scaling import GroupLoad, ScalingSignal, Waiting, wanted_workers
from shared.queue.heartbeat import Heartbeat
from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway

NONE = Waiting()


def worker(busy: int, slots: int = 2, overdue: int = 0, pinned: tuple[str, ...] = ()) -> Heartbeat:
    return Heartbeat(at=0.0, slots=slots, busy=busy, overdue=overdue, pinned=list(pinned))


def wanted(signal: ScalingSignal) -> dict[tuple[str, ...], float]:
    return {group.models: group.view["wanted_workers"] for group in signal.groups}


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ({"interactive": 0.0, "bulk": 0.0}, 1.5),
        ({"interactive": 0.25, "bulk": 0.0}, 2.0),
        ({"interactive": 0.0, "bulk": 15.0}, 2.0),
        ({"interactive": 60.0, "bulk": 6000.0}, 2.5),
        ({"interactive": math.nan, "bulk": math.nan}, 1.5),
    ],
)
def test_the_sum(waits: dict[str, float], expected: float) -> None:
    assert wanted_workers(3, 4, waits, 2) == expected


def test_the_parts_are_those_of_the_sum() -> None:
    waiting = {"interactive": Waiting(20, 0.125), "bulk": Waiting(100, 15.0)}
    view = GroupLoad(("a",), 2, 8, 3.0, waiting).view

    assert view["wanted_workers"] == (view["busy_slots"] + view["waiting_slots"]) / view["slots_per_worker"]
    parts = view["waiting"].values()
    asked = sum(each["count"] * each["slot_seconds_each"] / each["target_wait_seconds"] for each in parts)
    assert view["waiting_slots"] == asked == 8 * (0.125 + 0.25)
    assert wanted_workers(3.0, 8, {"interactive": 0.125, "bulk": 15.0}, 4) == view["wanted_workers"]


def test_rows_count_for_the_workers_that_serve_them_and_jobs_for_all() -> None:
    signal = ScalingSignal(10)
    rows = {"a": Waiting(5, 0.5), "b": Waiting(7, 0.25), "c": Waiting(1, 0.125)}
    signal.observe([worker(1), worker(0, pinned=("b", "a")), worker(2, pinned=("a", "b"))], rows, Waiting(9, 6.0))

    common, pinned = signal.groups
    assert (common.models, common.workers, common.slots) == ((), 1, 2)
    assert common.waiting == {"interactive": (1, 0.125), "bulk": (9, 6.0)}
    assert (pinned.models, pinned.workers, pinned.slots, pinned.busy) == (("a", "b"), 2, 4, 2)
    assert pinned.waiting == {"interactive": (12, 0.5), "bulk": (9, 6.0)}

    # Without workers of their own, models are served by the common ones.
    signal.observe([worker(1)], rows, NONE)
    assert [group.waiting["interactive"] for group in signal.groups] == [(13, 0.5)]


def test_busy_slots_are_a_mean_that_forgets() -> None:
    signal = ScalingSignal(4)
    found = []
    for busy in (2, 0, 2, 0, 0, 0, 0, 0):
        signal.observe([worker(busy)], {}, NONE)
        found.append(wanted(signal)[()])
    assert found == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2, 1 / 4, 1 / 4, 0, 0])


def test_a_slot_beyond_its_time_limit_is_busy() -> None:
    signal = ScalingSignal(4)
    signal.observe([worker(0, overdue=2), worker(1)], {}, NONE)
    assert wanted(signal) == {(): 1.5}


def test_a_group_without_slots_has_no_signal() -> None:
    """A zero would let the autoscaler think that nobody works."""
    signal = ScalingSignal(4)
    signal.observe([worker(2, pinned=("a",)), worker(0, slots=0)], {}, NONE)
    assert wanted(signal) == {("a",): 1}
    signal.observe([], {}, NONE)
    assert signal.groups == []
    # One that comes back does not remember what it did before.
    signal.observe([worker(0, pinned=("a",))], {}, NONE)
    assert wanted(signal) == {("a",): 0}


def test_without_a_redis_there_is_no_answer_that_could_be_taken_for_a_number(tmp_path: Path) -> None:
    async def asking() -> None:
        async with started(lone_gateway(tmp_path)) as client:
            answer = await client.get("/scaling")
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:headrace:problem:broker_unavailable"
            assert int(answer.headers["retry-after"]) >= 1

    run(asking())
