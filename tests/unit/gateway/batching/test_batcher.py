import asyncio
import random
import time
from typing import Any

import pytest
import redis

from gateway.admission.wait_estimates import RowWaitEstimate
from gateway.api.responses import timing
from gateway.batching import batcher, slots
from gateway.batching.batcher import Batcher
from gateway.batching.calls import Answer
from gateway.batching.slots import WorkerGroups
from gateway.errors import BrokerUnavailable, DeadlineExceeded, NoWorker, Overloaded, QueueFull
from gateway.fairness.budget import Budget
from gateway.settings import GatewaySettings
from headrace.models.manifest import Manifest
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, PredictMessage, Row
from shared.queue.heartbeat import Heartbeat
from shared.queue.packed_rows import PACKED_ROWS_MIN
from tests.support.coroutines import run, turns, until
from tests.support.manifests import classifier
from tests.unit.gateway.fakes import FakeBatchClient, FakeWorkers, error_of, predicted, rows_of

Asked = asyncio.Task[Answer]


class Lane:
    """A batcher with callers on one side and a queue that never answers by itself on the other."""

    def __init__(self, slots: int = 1, features: Manifest | None = None, **settings: Any) -> None:
        self.batch_client = FakeBatchClient()
        self.workers = FakeWorkers(slots)
        self.worker_groups = WorkerGroups(self.workers)
        self.clock = BrokerClock()
        chosen = GatewaySettings(**settings)
        self.all_models = Budget(chosen.waiting_rows_max)
        manifest = features or classifier(["value"])
        self.batcher = Batcher(manifest, self.batch_client, self.worker_groups, self.clock, self.all_models, chosen)
        self.asked: list[Asked] = []

    def ask(self, *values: float | str, deadline_seconds: float = 5.0, owner: str = "") -> Asked:
        """Start a request with a row for each value."""
        rows: list[Row] = [[value] for value in values]
        task = asyncio.create_task(predicted(self.batcher, rows, deadline_seconds, owner=owner))
        self.asked.append(task)
        return task

    @property
    def batches(self) -> list[list[Any]]:
        """The values of each batch that was published."""
        return [[row[0] for row in rows_of(message)] for message in self.batch_client.published]

    @property
    def last(self) -> PredictMessage:
        """The batch that was published last."""
        return self.batch_client.published[-1]

    async def answer(self, message: PredictMessage, compute_seconds: float = 0.0) -> None:
        """Answer a batch, and let everything run that this makes ready."""
        self.batch_client.answer(message, compute_seconds=compute_seconds)
        await turns()

    async def answer_everything(self, first: int = 0) -> None:
        """Answer batch after batch until no caller waits."""
        done = first
        while done < len(self.batch_client.published):
            await self.answer(self.batch_client.published[done])
            done += 1

    async def learn(self, row_seconds: float, rows: int = 1, value: float | str = 0.0) -> None:
        """Have one batch computed, which takes this time per row."""
        task = self.ask(*[value] * rows)
        await turns()
        await self.answer(self.last, compute_seconds=row_seconds * rows)
        await task
        self.batch_client.published.clear()


def predictions(task: Asked) -> Any:
    """Return the predictions that a caller got."""
    return task.result().result["predictions"]


def test_a_reply_that_lies_about_its_time_costs_a_soft_time_limit_at_most() -> None:
    async def scenario() -> None:
        lane = Lane()
        await lane.learn(row_seconds=1e6)
        cost = lane.batcher._cost
        assert 0 < cost.fixed_seconds + cost.row_seconds <= 25.0

    run(scenario())


def test_a_lone_request_goes_at_once() -> None:
    async def scenario() -> None:
        lane = Lane()
        task = lane.ask(1.0, 2.0)
        await turns()
        assert lane.batches == [[1.0, 2.0]]
        await lane.answer(lane.last, compute_seconds=0.25)
        assert predictions(task) == [1.0, 2.0]
        assert (task.result().started_at, task.result().compute_seconds) == (5.0, 0.25)

    run(scenario())


@pytest.mark.parametrize("jump_seconds", [-3600.0, -0.01, 0.01, 3600.0])
def test_a_reading_of_the_brokers_clock_changes_neither_waits_nor_deadlines(jump_seconds: float) -> None:
    def read_clock(lane: Lane) -> None:
        """Read the clock, which turns out to be other than it was taken for."""
        broker_seconds = lane.clock.now() + jump_seconds
        now = time.monotonic()
        lane.clock.calibrate((int(broker_seconds), int(broker_seconds % 1 * 1e6)), now, now)

    async def scenario() -> None:
        lane = Lane(slots=0)
        task = lane.ask(1.0, deadline_seconds=5.0)
        await turns()
        read_clock(lane)
        lane.workers.common = 1
        lane.worker_groups.follow_workers()
        await turns()
        [call] = lane.last.calls
        assert call.accepted_at == pytest.approx(lane.clock.now(), abs=1)
        assert call.deadline == pytest.approx(lane.clock.now() + 5, abs=1)
        late = lane.ask(2.0, deadline_seconds=5.0)
        await turns()
        read_clock(lane)
        reply = BatchReply(
            batch=lane.last.batch,
            started_at=lane.clock.now(),
            compute_seconds=0.25,
            results=[{"predictions": [1.0], "probabilities": None}],
        )
        lane.batch_client._deliver(reply.to_json().encode())
        answer = await task
        parts = timing(answer.started_at - answer.accepted_at, answer.compute_seconds, 0.5)
        assert parts["queue_ms"] + parts["compute_ms"] <= parts["total_ms"] == 500
        await turns()
        assert lane.last.calls[0].deadline == pytest.approx(lane.clock.now() + 5, abs=1)
        await lane.answer(lane.last)
        await late

    run(scenario())


def test_a_batch_says_whose_rows_are_whose_and_until_when() -> None:
    async def scenario() -> None:
        lane = Lane()
        tasks = [lane.ask(1.0, deadline_seconds=1.0), lane.ask(2.0, 3.0, deadline_seconds=2.0)]
        await turns()
        message = lane.last
        assert (message.model, message.version, message.probe) == ("sticks", "v1", False)
        assert message.reply_to == lane.batch_client.reply_to
        assert [call.n_rows for call in message.calls] == [1, 2]
        assert [round(call.deadline - call.accepted_at, 6) for call in message.calls] == [1.0, 2.0]
        await lane.answer(message)
        await asyncio.gather(*tasks)

    run(scenario())


def test_requests_of_one_turn_of_the_loop_leave_together() -> None:
    async def scenario() -> None:
        lane = Lane(slots=4)
        tasks = [lane.ask(float(i)) for i in range(5)]
        await turns()
        assert lane.batches == [[0.0, 1.0, 2.0, 3.0, 4.0]]
        await lane.answer_everything()
        await asyncio.gather(*tasks)

    run(scenario())


def test_what_arrives_while_a_batch_is_in_flight_leaves_together_when_it_is_answered() -> None:
    async def scenario() -> None:
        lane = Lane()
        first = lane.ask(0.0)
        await turns()
        for i in range(1, 6):
            lane.ask(float(i))
            await turns()
        assert lane.batches == [[0.0]]
        assert lane.batcher.waiting_rows == 5

        await lane.answer(lane.last)

        assert predictions(first) == [0.0]
        assert lane.batches == [[0.0], [1.0, 2.0, 3.0, 4.0, 5.0]]
        await lane.answer_everything(first=1)
        assert [predictions(task) for task in lane.asked[1:]] == [[1.0], [2.0], [3.0], [4.0], [5.0]]

    run(scenario())


def test_answers_go_to_the_callers_who_asked() -> None:
    async def scenario() -> None:
        lane = Lane(slots=3)
        for i in range(3):
            lane.ask(10.0 * i, 10.0 * i + 1)
            await turns()
        assert len(lane.batches) == 3
        for message in reversed(lane.batch_client.published):
            await lane.answer(message)
        assert [predictions(task) for task in lane.asked] == [[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]]

    run(scenario())


def test_a_failed_call_does_not_fail_its_neighbours() -> None:
    async def scenario() -> None:
        lane = Lane()
        good, bad = lane.ask(1.0), lane.ask(2.0)
        await turns()
        error = {"error": {"code": "prediction_failed", "message": "no", "rows": [0]}}
        lane.batch_client.answer(lane.last, [{"predictions": [1.0], "probabilities": None}, error])
        assert (await good).result["predictions"] == [1.0]
        assert (await bad).result == error

    run(scenario())


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_never_more_batches_in_flight_than_slots(slots: int) -> None:
    async def scenario() -> None:
        lane = Lane(slots=slots)
        for i in range(20):
            lane.ask(float(i))
            await turns()
        assert len(lane.batches) == slots
        await lane.answer_everything()
        await asyncio.gather(*lane.asked)

    run(scenario())


def test_when_slots_go_away_nothing_new_is_sent_until_enough_are_answered() -> None:
    async def scenario() -> None:
        lane = Lane(slots=3)
        for i in range(4):
            lane.ask(float(i))
            await turns()
        lane.workers.common = 1
        for answered in range(2):
            await lane.answer(lane.batch_client.published[answered])
            assert len(lane.batches) == 3
        await lane.answer(lane.batch_client.published[2])
        assert lane.batches[3] == [3.0]
        await lane.answer_everything(first=3)
        await asyncio.gather(*lane.asked)

    run(scenario())


def test_without_slots_nothing_is_sent_until_a_worker_shows_up() -> None:
    async def scenario() -> None:
        lane = Lane(slots=0)
        task = lane.ask(1.0)
        await turns()
        assert lane.batches == []
        lane.workers.common = 1
        await turns()
        assert lane.batches == [], "nobody has said so yet"
        lane.worker_groups.follow_workers()
        await turns()
        assert lane.batches == [[1.0]]
        await lane.answer_everything()
        assert predictions(task) == [1.0]

    run(scenario())


def test_a_batch_holds_so_many_rows_at_most_and_only_what_fits_into_none_is_split() -> None:
    async def scenario() -> None:
        lane = Lane(slots=0, batch_rows_max=4)
        for size in (2, 1, 2, 4, 9, 1):
            lane.ask(*[float(len(lane.asked))] * size)
        await turns()
        lane.workers.common = 9
        lane.worker_groups.follow_workers()
        await turns()
        assert lane.batches == [[0.0, 0.0, 1.0], [2.0, 2.0], [3.0] * 4, [4.0] * 4, [5.0, 4.0, 4.0, 4.0], [4.0, 4.0]]
        await lane.answer_everything()
        await asyncio.gather(*lane.asked)

    run(scenario())


async def batches_of(lane: Lane, n_rows: int, slots: int) -> list[int]:
    """Return the sizes of the batches that leave at once when this many rows wait and slots become free."""
    lane.workers.common = 0
    for i in range(n_rows):
        lane.ask(float(i))
    await turns()
    lane.workers.common = slots
    lane.worker_groups.follow_workers()
    await turns()
    sizes = [len(values) for values in lane.batches]
    await lane.answer_everything()
    await asyncio.gather(*lane.asked)
    lane.batch_client.published.clear()
    return sizes


@pytest.mark.parametrize(
    ("row_seconds", "slots", "sizes"),
    [
        (0.001, 4, [2, 2, 2, 2]),
        (0.001, 3, [3, 3, 2]),
        (0.001, 1, [8]),
        (0.01, 16, [1] * 8),
        # 8 rows in 1.6 ms: dividing them would cost more than it gains.
        (0.0002, 4, [8]),
    ],
)
def test_rows_of_a_slow_model_are_divided_over_the_free_slots(row_seconds: float, slots: int, sizes: list[int]) -> None:
    async def scenario() -> None:
        lane = Lane(batch_compute_target_seconds=100)
        await lane.learn(row_seconds)
        assert await batches_of(lane, 8, slots) == sizes

    run(scenario())


def test_how_long_a_row_takes_is_learned_and_limits_a_batch() -> None:
    async def scenario() -> None:
        lane = Lane(batch_compute_target_seconds=0.05)
        assert await batches_of(lane, 8, 1) == [8], "nothing is known yet"
        await lane.learn(0.01)
        assert (await batches_of(lane, 8, 1))[0] == 5
        await lane.learn(0.06)
        assert (await batches_of(lane, 8, 1))[0] == 2

    run(scenario())


def test_a_row_that_takes_longer_than_a_batch_should_goes_alone() -> None:
    async def scenario() -> None:
        lane = Lane(batch_compute_target_seconds=0.05)
        await lane.learn(1.0)
        await lane.learn(1.0, rows=2)
        assert (await batches_of(lane, 3, 1))[0] == 1

    run(scenario())


def test_what_was_not_computed_teaches_nothing() -> None:
    async def scenario() -> None:
        lane = Lane(batch_compute_target_seconds=0.05)
        await lane.learn(0.01)
        for _ in range(20):
            await lane.learn(0.0)
        assert (await batches_of(lane, 8, 1))[0] == 5

    run(scenario())


def test_those_who_gave_up_waiting_are_left_out() -> None:
    async def scenario() -> None:
        lane = Lane()
        lane.ask(0.0)
        await turns()
        patient, expired, left = lane.ask(1.0), lane.ask(2.0, 2.0, deadline_seconds=0.01), lane.ask(3.0)
        await error_of(expired, DeadlineExceeded)
        left.cancel()
        await turns()
        await lane.answer(lane.last)
        assert lane.batches == [[0.0], [1.0]]
        assert lane.batcher.waiting_rows == 0
        await lane.answer(lane.last)
        assert predictions(patient) == [1.0]
        lane.ask(4.0)
        await turns()
        assert lane.batches[2:] == [[4.0]], "the slot is free"
        await lane.answer(lane.last)
        await asyncio.gather(*lane.asked, return_exceptions=True)

    run(scenario())


def test_if_all_gave_up_no_batch_is_sent() -> None:
    async def scenario() -> None:
        lane = Lane()
        lane.ask(0.0)
        await turns()
        tasks = [lane.ask(1.0), lane.ask(2.0)]
        await turns()
        for task in tasks:
            task.cancel()
        await turns()
        await lane.answer(lane.last)
        assert lane.batches == [[0.0]]
        assert lane.batcher.waiting_rows == 0
        await asyncio.gather(*lane.asked, return_exceptions=True)

    run(scenario())


def test_without_a_broker_callers_hear_at_their_deadline_that_it_does_not_answer() -> None:
    async def scenario() -> None:
        lane = Lane(slots=0)
        lane.workers.known = False
        await error_of(lane.ask(1.0, deadline_seconds=0.01), BrokerUnavailable)

    run(scenario())


def test_a_caller_who_left_while_the_batch_was_computed_disturbs_nobody() -> None:
    async def scenario() -> None:
        lane = Lane()
        stays, leaves = lane.ask(1.0), lane.ask(2.0)
        await turns()
        leaves.cancel()
        await turns()
        await lane.answer(lane.last)
        assert predictions(stays) == [1.0]
        assert leaves.cancelled()

    run(scenario())


def test_without_a_worker_callers_hear_so_at_their_deadline_and_stop_counting() -> None:
    async def scenario() -> None:
        lane = Lane(slots=0, waiting_rows_max=4)
        for _ in range(3):
            tasks = [lane.ask(1.0, 2.0, deadline_seconds=0.01) for _ in range(2)]
            for task in tasks:
                await error_of(task, NoWorker)
            assert lane.batcher.waiting_rows == 0
        lane.workers.common = 1
        lane.worker_groups.follow_workers()
        await turns()
        assert lane.batches == []

    run(scenario())


def test_more_rows_than_may_wait_are_turned_away() -> None:
    async def scenario() -> None:
        lane = Lane(slots=0, waiting_rows_max=3)
        accepted = lane.ask(1.0, 2.0)
        await turns()
        refused = await error_of(lane.ask(3.0, 4.0), QueueFull)
        assert refused.retry_after_seconds >= 1
        fits = lane.ask(3.0)
        await turns()
        assert lane.batcher.waiting_rows == 3
        lane.workers.common = 1
        lane.worker_groups.follow_workers()
        await turns()
        await lane.answer_everything()
        assert (predictions(accepted), predictions(fits)) == ([1.0, 2.0], [3.0])

    run(scenario())


@pytest.mark.parametrize("rows", [4, 1])
def test_the_rows_of_one_owner_leave_room_for_others(rows: int) -> None:
    async def scenario() -> None:
        lane = Lane(slots=0, waiting_rows_max=8)
        theirs = [lane.ask(*[1.0] * rows, owner="mallory") for _ in range(4 // rows)]
        await turns()
        await error_of(lane.ask(1.0, owner="mallory"), QueueFull)
        others = lane.ask(2.0, 2.0, 2.0, owner="victim")
        await turns()
        assert lane.batcher.waiting_rows == lane.all_models.held == 7
        await error_of(lane.ask(2.0, 2.0, owner="victim"), QueueFull)
        lane.workers.common = 1
        lane.worker_groups.follow_workers()
        await turns()
        await lane.answer_everything()
        assert [predictions(task) for task in (*theirs, others)] == [[1.0] * rows] * len(theirs) + [[2.0] * 3]
        assert lane.all_models.held == lane.all_models.counted == 0

    run(scenario())


def test_an_owner_has_its_room_again_however_its_calls_end() -> None:
    async def scenario() -> None:
        lane = Lane(slots=0, waiting_rows_max=8)
        for _ in range(2):
            leaves = lane.ask(1.0, 2.0, owner="a")
            late = lane.ask(3.0, 4.0, deadline_seconds=0.01, owner="a")
            await turns()
            leaves.cancel()
            await error_of(late, NoWorker)
            await asyncio.gather(leaves, return_exceptions=True)
            assert lane.all_models.held == lane.all_models.share_of("a").held == 0
        lane.batch_client.failure = redis.ConnectionError()
        lane.workers.common = 1
        lane.worker_groups.follow_workers()
        await error_of(lane.ask(*[1.0] * 4, owner="a"), BrokerUnavailable)
        assert lane.all_models.held == lane.all_models.share_of("a").held == 0

    run(scenario())


def test_a_request_of_more_rows_than_half_may_wait_and_one_of_more_than_all_may_not() -> None:
    async def scenario() -> None:
        lane = Lane(slots=0, waiting_rows_max=8)
        for owner in ("", "a"):
            await error_of(lane.ask(*[1.0] * 9, owner=owner), QueueFull)
        fits = lane.ask(*[1.0] * 8, owner="a")
        await turns()
        others = lane.ask(*[2.0] * 4, owner="b")
        await turns()
        assert lane.all_models.held == 12
        for task in (fits, others):
            task.cancel()
        await asyncio.gather(fits, others, return_exceptions=True)
        assert lane.all_models.held == lane.all_models.counted == 0

    run(scenario())


class Clock:
    """The clock of a batcher's estimate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(batcher, "RowWaitEstimate", lambda: RowWaitEstimate(lambda: self.now))

    async def serve(self, lane: Lane, batches: int, seconds: float, compute_seconds: float = 0.0) -> None:
        """Answer a number of batches, each after this many seconds."""
        for _ in range(batches):
            self.now += seconds
            await lane.answer(lane.last, compute_seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def leave(lane: Lane) -> None:
    """Let all callers leave."""
    for task in lane.asked:
        task.cancel()
    await asyncio.gather(*lane.asked, return_exceptions=True)


def test_who_could_not_be_answered_in_time_is_refused_at_once(clock: Clock) -> None:
    async def scenario() -> None:
        lane = Lane(batch_rows_max=1)
        for i in range(20):
            lane.ask(float(i))
        await turns()
        await clock.serve(lane, 10, seconds=0.1)
        assert lane.batcher.wait_seconds == pytest.approx(0.9, rel=0.1)

        refused = await error_of(lane.ask(20.0, deadline_seconds=1.0), Overloaded)
        assert refused.retry_after_seconds == pytest.approx(0.9, rel=0.1)
        await error_of(lane.ask(*[21.0] * 40, deadline_seconds=4.0), Overloaded)
        patient, few = lane.ask(22.0, deadline_seconds=2.0), lane.ask(*[23.0] * 20, deadline_seconds=4.5)
        await turns()
        assert not patient.done()
        assert not few.done()

        await clock.serve(lane, 31, seconds=0.1)
        assert predictions(patient) == [22.0]
        assert predictions(few) == [23.0] * 20
        served = lane.ask(24.0, deadline_seconds=0.2)
        await turns()
        await lane.answer(lane.last)
        assert predictions(served) == [24.0], "nobody waits any more, whatever it has been like"

    run(scenario())


def texts() -> Manifest:
    """Return the manifest of a model of one text."""
    manifest = classifier(["value"])
    [feature] = manifest.features
    return manifest.model_copy(update={"features": [feature.model_copy(update={"type": "string"})]})


LONG = "x" * 100_000


def test_long_texts_of_one_owner_hold_up_the_others_for_one_row(clock: Clock) -> None:
    async def scenario() -> None:
        lane = Lane(features=texts())
        for _ in range(90):
            lane.ask(LONG, deadline_seconds=60.0, owner="a")
        await turns()
        for _ in range(12):
            await clock.serve(lane, 1, seconds=0.5, compute_seconds=0.5 * len(lane.batches[-1]))
        assert {len(batch) for batch in lane.batches[3:]} == {1}
        await error_of(lane.ask(LONG, deadline_seconds=5.0, owner="a"), Overloaded)

        others = [lane.ask("short", owner="b") for _ in range(20)]
        await turns()
        assert not any(task.done() for task in others)
        await clock.serve(lane, 3, seconds=0.5, compute_seconds=0.5)
        assert all(task.done() for task in others), "as many as weigh less than a row of the other owner go first"
        assert {tuple(predictions(task)) for task in others} == {("short",)}
        await leave(lane)
        assert lane.batcher.wait_seconds == 0

    run(scenario())


def test_a_model_is_slow_while_its_next_row_is_long() -> None:
    async def scenario() -> None:
        lane = Lane(slots=2, features=texts())
        for n_rows in (1, 2, 4, 8):
            await lane.learn(0.0001, n_rows, "short")
        slow_before = lane.batcher.slow

        lane.ask(*[LONG] * 4)
        await turns()
        assert (slow_before, lane.batcher.slow) == (False, True)
        assert lane.batches == [[LONG]], "one row at a time, and the other slot stays free for quick models"
        await leave(lane)

    run(scenario())


def test_short_texts_are_served_beside_long_ones_that_take_longer_than_their_deadline(clock: Clock) -> None:
    async def scenario() -> None:
        lane = Lane(slots=2, features=texts())
        for _ in range(60):
            cheap = lane.ask(LONG, owner="patient")
            await turns()
            await clock.serve(lane, 1, seconds=0.02, compute_seconds=0.02)
            await cheap
        for _ in range(9):
            lane.ask(LONG, deadline_seconds=600, owner="patient")
        await turns()
        in_flight = lane.batch_client.published[60:]
        for message in in_flight:
            clock.now += 3.0
            await lane.answer(message, compute_seconds=3.0)
        await clock.serve(lane, 2, seconds=3.0, compute_seconds=3.0)
        n_before = len(lane.batches)

        short = lane.ask("short", deadline_seconds=3.5, owner="quick")
        await turns()
        assert lane.batches[n_before:] == [["short"]], "admitted, and in the slot that is kept free"
        await lane.answer(lane.last, compute_seconds=0.001)
        assert predictions(short) == ["short"]
        await leave(lane)

    run(scenario())


def test_the_rest_of_a_large_call_keeps_no_small_one_from_coming_in(clock: Clock) -> None:
    async def scenario() -> None:
        lane = Lane(batch_rows_max=10)
        large = [lane.ask(*[float(i)] * 500, deadline_seconds=60.0) for i in range(2)]
        await turns()
        await clock.serve(lane, 20, seconds=0.1)
        assert lane.batcher.waiting_rows * 0.01 > 5, "they take much longer than the small one has"

        small = lane.ask(7.0, deadline_seconds=1.0)
        # A large one would have to share with the others.
        await error_of(lane.ask(*[8.0] * 100, deadline_seconds=5.0), Overloaded)
        await clock.serve(lane, 3, seconds=0.1)
        assert predictions(small) == [7.0]
        assert not any(task.done() for task in large)
        await leave(lane)
        assert lane.batcher.wait_seconds == 0

    run(scenario())


def test_whose_turn_comes_too_late_is_refused_so_that_others_are_answered(clock: Clock) -> None:
    async def scenario() -> None:
        lane = Lane(batch_rows_max=1)
        first = lane.ask(0.0)
        await turns()
        late, early = lane.ask(1.0, deadline_seconds=0.5), lane.ask(2.0, deadline_seconds=50.0)
        lane.ask(3.0, deadline_seconds=50.0)
        await turns()
        await clock.serve(lane, 1, seconds=1.0)
        assert lane.batches == [[0.0], [1.0]], "nothing was known of what waits yet"
        lane.ask(4.0, deadline_seconds=0.5)
        await turns()
        await clock.serve(lane, 3, seconds=1.0)

        assert lane.batches == [[0.0], [1.0], [2.0], [3.0]]
        await error_of(lane.asked[-1], Overloaded)
        assert [predictions(task) for task in (first, late, early)] == [[0.0], [1.0], [2.0]]
        after = lane.ask(5.0, deadline_seconds=0.5)
        await turns()
        await lane.answer(lane.last)
        assert predictions(after) == [5.0], "it is tried again"

    run(scenario())


def test_without_workers_who_waits_for_one_is_not_refused(clock: Clock) -> None:
    async def scenario() -> None:
        lane = Lane(batch_rows_max=1)
        for i in range(20):
            lane.ask(float(i))
        await turns()
        await clock.serve(lane, 10, seconds=1.0)
        lane.workers.common = 0
        waits = lane.ask(20.0, deadline_seconds=1.0)
        await turns()
        assert not waits.done()
        await leave(lane)

    run(scenario())


@pytest.mark.parametrize(
    "failure", [redis.ConnectionError("x"), redis.TimeoutError("x"), OSError("x"), asyncio.TimeoutError()]
)
def test_if_the_broker_does_not_take_a_batch_its_callers_hear_and_the_slot_is_free(failure: Exception) -> None:
    async def scenario() -> None:
        lane = Lane()
        lane.batch_client.failure = failure
        tasks = [lane.ask(1.0), lane.ask(2.0)]
        for task in tasks:
            await error_of(task, BrokerUnavailable)
        lane.batch_client.failure = None
        after = lane.ask(3.0)
        await turns()
        assert lane.batches == [[3.0]]
        await lane.answer_everything()
        assert predictions(after) == [3.0]

    run(scenario())


def test_a_failure_that_nobody_foresaw_costs_no_slot() -> None:
    async def scenario() -> None:
        lane = Lane()
        lane.batch_client.failure = ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError):
            await lane.ask(1.0)
        lane.batch_client.failure = None
        after = lane.ask(2.0)
        await turns()
        await lane.answer_everything()
        assert predictions(after) == [2.0]

    run(scenario())


def test_those_behind_a_batch_that_was_not_taken_get_their_turn() -> None:
    async def scenario() -> None:
        lane = Lane(batch_rows_max=1)
        lane.batch_client.failure = redis.ConnectionError()
        first, second = lane.ask(1.0), lane.ask(2.0)
        await error_of(first, BrokerUnavailable)
        lane.batch_client.failure = None
        await turns()
        await lane.answer_everything()
        assert predictions(second) == [2.0]

    run(scenario())


async def late_batch(lane: Lane) -> PredictMessage:
    """Have one batch published that is not answered in time."""
    late = lane.ask(1.0, deadline_seconds=0.01)
    await turns()
    await error_of(late, DeadlineExceeded)
    await until("it is late", lambda: not lane.batcher._in_flight[lane.last.batch].chunks)
    return lane.last


def test_a_late_batch_keeps_its_slot_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lane = Lane()
        late = await late_batch(lane)
        waiting = lane.ask(2.0)
        await turns()
        assert lane.batches == [[1.0]], "a worker still computes it: a caller could take slot after slot"
        await lane.answer(late, compute_seconds=1.0)
        assert lane.batcher.slow, "its cost is known"
        await lane.answer(lane.last)
        assert predictions(waiting) == [2.0]
        assert lane.batcher.idle

    monkeypatch.setattr(batcher, "REPLY_GRACE_SECONDS", 0.05)
    run(scenario())


def test_the_slot_of_a_late_batch_that_no_worker_holds_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lane = Lane()
        late = await late_batch(lane)
        waiting = lane.ask(2.0)
        lane.workers.heartbeats = {"worker": Heartbeat(at=0, slots=1, busy=1)}
        lane.worker_groups.follow_workers()
        await turns()
        assert lane.batches == [[1.0]]
        lane.workers.heartbeats = {"worker": Heartbeat(at=0, slots=1)}
        lane.worker_groups.follow_workers()
        await turns()
        assert lane.batches == [[1.0], [2.0]]
        await lane.answer(late, compute_seconds=1.0)  # much too late, and nobody minds
        await lane.answer(lane.last)
        assert predictions(waiting) == [2.0]

    monkeypatch.setattr(batcher, "REPLY_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(slots, "LATE_CHECKED_SECONDS", 0.0)
    run(scenario())


def test_a_late_batch_that_outlives_its_time_limit_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lane = Lane()
        await late_batch(lane)
        waiting = lane.ask(2.0)
        await until("the slot is free", lambda: len(lane.batches) == 2)
        await lane.answer(lane.last)
        assert predictions(waiting) == [2.0]

    monkeypatch.setattr(batcher, "REPLY_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(GatewaySettings, "lease_seconds", 0.01)
    run(scenario())


def test_a_batch_that_ran_into_its_time_limit_is_known_for_slow() -> None:
    async def scenario() -> None:
        lane = Lane()
        await lane.learn(0.0001)
        failed = lane.ask(1.0)
        await turns()
        error = {"code": "time_limit", "message": "too long", "rows": [], "count": 0}
        lane.batch_client.answer(lane.last, [{"error": error}])
        await failed
        assert lane.batcher.slow

    run(scenario())


def test_an_answered_batch_is_not_given_up_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lane = Lane()
        lane.ask(1.0, deadline_seconds=0.5)
        await turns()
        await lane.answer(lane.last)
        lane.ask(2.0)
        await turns()
        waiting = lane.ask(3.0, deadline_seconds=1.0)
        # The second batch still holds the only slot.
        await error_of(waiting, DeadlineExceeded)
        await lane.answer(lane.last)
        await asyncio.gather(*lane.asked, return_exceptions=True)

    monkeypatch.setattr(batcher, "REPLY_GRACE_SECONDS", 0.0)
    run(scenario())


class Traffic:
    """Callers with any number of rows that come, wait and sometimes leave, and workers that answer in any order."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lane = Lane(slots=3, batch_rows_max=16)
        self.wanted: dict[Asked, list[float]] = {}
        self._in_flight: list[PredictMessage] = []
        self._seen = 0

    def ask(self, number: int) -> None:
        values = [number + i / 100 for i in range(self.chance.choice([1, 2, 20, 50]))]
        self.wanted[self.lane.ask(*values, deadline_seconds=600)] = values

    def leave(self) -> None:
        self.chance.choice(list(self.wanted)).cancel()

    def in_flight(self) -> int:
        """Return the number of batches in flight."""
        self._in_flight += self.lane.batch_client.published[self._seen :]
        self._seen = len(self.lane.batch_client.published)
        return len(self._in_flight)

    async def answer(self) -> None:
        message = self._in_flight.pop(self.chance.randrange(len(self._in_flight)))
        await self.lane.answer(message, compute_seconds=self.chance.choice([0.0, 0.0001, 0.003]))


@pytest.mark.parametrize("seed", range(3))
def test_in_any_traffic_everyone_gets_their_own_answer(seed: int) -> None:
    async def scenario() -> None:
        traffic = Traffic(seed)
        for i in range(300):
            traffic.ask(i)
            if traffic.chance.random() < 0.1:
                traffic.leave()
            await turns(traffic.chance.choice([0, 10]))
            assert traffic.in_flight() <= traffic.lane.workers.common
            if traffic.in_flight() and traffic.chance.random() < 0.4:
                await traffic.answer()
        await turns()
        while traffic.in_flight():
            await traffic.answer()

        assert all(task.cancelled() or predictions(task) == values for task, values in traffic.wanted.items())
        assert traffic.lane.batcher.waiting_rows == 0
        for message in traffic.lane.batch_client.published:
            assert len(message.rows) == sum(call.n_rows for call in message.calls)
            assert len(message.rows) <= 16

    run(scenario())


def test_many_rows_of_numbers_are_packed_and_few_are_not() -> None:
    async def scenario() -> None:
        lane = Lane(slots=2)
        values = [float(value) for value in range(PACKED_ROWS_MIN + 1)]
        lane.ask(*values)
        await turns()
        lane.ask(*values[1:])
        await turns()
        many, few = lane.batch_client.published
        assert (type(many.rows), rows_of(many)) == (str, [[value] for value in values])
        assert few.rows == [[value] for value in values[1:]]
        await lane.answer_everything()

    run(scenario())


def test_rows_with_a_null_travel_as_they_are() -> None:
    async def scenario() -> None:
        lane = Lane()
        values: list[Any] = [1.0, None] * PACKED_ROWS_MIN
        lane.ask(*values)
        await turns()
        assert lane.last.rows == [[value] for value in values]
        await lane.answer_everything()

    run(scenario())
