import asyncio

import pytest

from gateway.batching.calls import Answer, WaitingCall
from gateway.batching.wait_queue import WaitQueue
from gateway.errors import Overloaded
from gateway.fairness.budget import Budget
from tests.support.coroutines import run

BATCH_ROWS = 4


class Waiting:
    """A queue, and calls whose rows are numbered by call."""

    def __init__(self) -> None:
        self.all_models = Budget(1000)
        self.queue = WaitQueue(BATCH_ROWS)
        self.calls: list[WaitingCall] = []

    def add(self, n_rows: int, deadline: float = 100.0) -> WaitingCall:
        rows = [[float(len(self.calls))]] * n_rows
        call = WaitingCall(
            rows, 0.0, deadline, asyncio.get_running_loop().create_future(), self.all_models.share_of("")
        )
        self.calls.append(call)
        self.queue.add(call, BATCH_ROWS)
        return call

    def pop(self, limit: int = BATCH_ROWS, earliest_deadline: float = 0.0) -> list[tuple[int, int]]:
        """Return the calls in the next batch: the number of each, and of its rows there."""
        chunks = self.queue.pop_batch(limit, earliest_deadline, 2.5)
        return [(self.calls.index(chunk.call), chunk.n_rows) for chunk in chunks]


def test_calls_leave_in_their_order_up_to_the_limit() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        for n_rows in (1, 2, 1, 3):
            waiting.add(n_rows)
        assert waiting.pop() == [(0, 1), (1, 2), (2, 1)]
        assert (waiting.queue.rows, waiting.all_models.held) == (3, 3)
        assert waiting.pop() == [(3, 3)]
        assert not waiting.queue
        assert waiting.pop() == []

    run(scenario())


def test_a_call_that_fits_into_a_batch_stays_in_one_piece_and_in_its_place() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        for n_rows in (3, 2, 1):
            waiting.add(n_rows)
        assert waiting.pop() == [(0, 3)]
        assert waiting.pop() == [(1, 2), (2, 1)]

    run(scenario())


def test_the_rest_of_a_large_call_gives_way_once_to_the_calls_behind_it() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        waiting.add(9)
        assert waiting.queue.rows_ahead == 4, "a small call overtakes what is beyond the first batch"
        assert waiting.pop() == [(0, 4)]
        assert waiting.queue.rows_ahead == 0
        waiting.add(1)
        assert waiting.pop() == [(1, 1), (0, 3)]
        assert waiting.pop() == [(0, 2)]
        assert (waiting.queue.rows, waiting.queue.rows_ahead) == (0, 0)

    run(scenario())


def test_two_large_calls_take_turns() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        waiting.add(8)
        waiting.add(8)
        assert [waiting.pop() for _ in range(4)] == [[(0, 4)], [(1, 4)], [(0, 4)], [(1, 4)]]

    run(scenario())


def test_calls_that_have_an_answer_are_left_out_and_counted_until_they_are_removed() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        gone = waiting.add(2)
        waiting.add(1)
        gone.answer.cancel()
        assert waiting.pop() == [(1, 1)]
        assert waiting.queue.rows == 2
        for _ in range(2):
            waiting.queue.remove(gone)
            assert (waiting.queue.rows, waiting.all_models.held) == (0, 0)

    run(scenario())


def test_removing_a_large_call_drops_its_rest() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        large = waiting.add(9)
        waiting.pop()
        waiting.queue.remove(large)
        assert not waiting.queue
        assert (waiting.queue.rows, waiting.queue.rows_ahead) == (0, 0)

    run(scenario())


def test_a_call_whose_turn_comes_too_late_is_refused() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        late, early = waiting.add(1, deadline=9.9), waiting.add(1, deadline=10.0)
        assert waiting.pop(earliest_deadline=10.0) == [(1, 1)]
        with pytest.raises(Overloaded) as refused:
            late.answer.result()
        assert refused.value.retry_after_seconds == 2.5
        early.answer.set_result(Answer({}, 0.0, 0.0, 0.0))

    run(scenario())
