from collections.abc import Sequence
from itertools import accumulate

from gateway.batching.calls import Answer, WaitingCall
from gateway.batching.wait_queue import WaitQueue
from gateway.errors import Overloaded
from gateway.fairness.budget import Budget
from shared.queue.contract import Row
from tests.support.coroutines import run, turns

BATCH_ROWS = 4


class Waiting:
    """A queue, and calls whose rows are numbered by call."""

    def __init__(self) -> None:
        self.all_models = Budget(1000)
        self.queue = WaitQueue(BATCH_ROWS)
        self.calls: list[WaitingCall] = []
        self.outcomes: list[Answer | Exception] = []

    def add(
        self, n_rows: int, deadline: float = 100.0, owner: str = "", weights: Sequence[int] | None = None
    ) -> WaitingCall:
        rows: list[Row] = [[float(len(self.calls))]] * n_rows
        sums = [*accumulate(weights)] if weights else None
        share = self.all_models.share_of(owner)
        call = WaitingCall(rows, 0.0, deadline, self.outcomes.append, share, self.queue.remove, weights=sums)
        self.calls.append(call)
        self.queue.add(call, BATCH_ROWS)
        return call

    @property
    def ahead(self) -> int:
        """Weight that leaves before a row that comes now."""
        return self.ahead_of("")

    def ahead_of(self, owner: str, weight: int = 1, is_large: bool = False) -> int:
        return self.queue.weight_ahead(self.all_models.share_of(owner), weight, is_large)

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
        assert waiting.ahead == 4, "a small call overtakes what is beyond the first batch"
        assert waiting.pop() == [(0, 4)]
        assert waiting.ahead == 0
        waiting.add(1)
        assert waiting.pop() == [(1, 1), (0, 3)]
        assert waiting.pop() == [(0, 2)]
        assert (waiting.queue.rows, waiting.ahead) == (0, 0)

    run(scenario())


def test_two_large_calls_take_turns() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        waiting.add(8)
        waiting.add(8)
        assert [waiting.pop() for _ in range(4)] == [[(0, 4)], [(1, 4)], [(0, 4)], [(1, 4)]]

    run(scenario())


def test_calls_that_have_ended_are_left_out_and_count_no_more() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        gone = waiting.add(2)
        waiting.add(1)
        for _ in range(2):
            gone.end(None)
            assert (waiting.queue.rows, waiting.all_models.held) == (1, 1)
        assert waiting.pop() == [(1, 1)]
        assert (waiting.queue.rows, waiting.all_models.held) == (0, 0)
        await turns()
        assert waiting.outcomes == []

    run(scenario())


def test_removing_a_large_call_drops_its_rest() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        large = waiting.add(9)
        waiting.pop()
        waiting.queue.remove(large)
        assert not waiting.queue
        assert (waiting.queue.rows, waiting.ahead) == (0, 0)

    run(scenario())


def test_a_call_whose_turn_comes_too_late_is_refused() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        waiting.add(1, deadline=9.9)
        waiting.add(1, deadline=10.0)
        assert waiting.pop(earliest_deadline=10.0) == [(1, 1)]
        assert waiting.outcomes == []
        await turns()
        [refused] = waiting.outcomes
        assert isinstance(refused, Overloaded) and refused.retry_after_seconds == 2.5
        assert (waiting.queue.rows, waiting.all_models.held) == (0, 0)

    run(scenario())


# --- owners


def test_owners_take_turns_whatever_the_number_of_their_calls() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        for _ in range(6):
            waiting.add(1, owner="a")
        waiting.add(1, owner="b")
        waiting.add(1, owner="b")
        waiting.add(4, owner="c")
        assert (waiting.ahead_of("a"), waiting.ahead_of("b"), waiting.ahead_of("d")) == (6 + 2 + 4, 2 + 3 + 3, 3)
        # The owner of whose rows the least has left goes next; a call that fits into a batch stays whole.
        assert waiting.pop() == [(0, 1), (6, 1)]
        assert waiting.pop() == [(8, 4)]
        assert waiting.pop() == [(1, 1), (7, 1), (2, 1), (3, 1)]
        assert waiting.pop() == [(4, 1), (5, 1)]
        assert not waiting.queue

    run(scenario())


def test_work_done_while_no_other_waited_counts_against_nobody() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        for _ in range(50):
            waiting.add(4, owner="a")
            waiting.pop()
        waiting.add(1, owner="a")
        waiting.add(1, owner="b")
        waiting.add(1, owner="a")
        waiting.add(1, owner="b")
        assert [at - 50 for at, _ in waiting.pop()] == [1, 3, 0, 2], "the last call of a still counts, and no more"

    run(scenario())


def test_an_owner_who_comes_back_each_time_does_not_go_before_the_others() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        for _ in range(5):
            waiting.add(1, owner="a")
        waiting.add(4, owner="b")
        assert [waiting.pop(), waiting.pop()] == [[(0, 1)], [(5, 4)]]
        waiting.add(4, owner="b")
        assert waiting.pop() == [(1, 1), (2, 1), (3, 1)], "b has nothing else waiting, and had four rows"
        assert [waiting.pop(), waiting.pop()] == [[(6, 4)], [(4, 1)]]

    run(scenario())


# --- weights


def test_a_batch_is_bounded_by_weight_and_a_heavy_row_is_alone() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        waiting.add(1)
        waiting.add(3, weights=[9, 2, 2])
        waiting.add(1)
        assert (waiting.queue.rows, waiting.queue.weight) == (5, 15)
        assert waiting.pop() == [(0, 1)]
        assert waiting.pop() == [(1, 1)]
        assert waiting.queue.next_weight == 1, "the rest of a large call gives way"
        assert waiting.pop() == [(2, 1)]
        assert waiting.queue.next_weight == 2
        assert waiting.pop() == [(1, 2)]
        assert (waiting.queue.rows, waiting.queue.weight, waiting.queue.next_weight) == (0, 0, 1)

    run(scenario())


def test_a_heavy_row_is_paid_for_with_as_many_light_ones() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        for _ in range(2):
            waiting.add(1, owner="heavy", weights=[6])
        for _ in range(9):
            waiting.add(1, owner="light")
        assert waiting.pop() == [(0, 1)]
        assert waiting.ahead_of("light") == 9 + 4
        assert waiting.ahead_of("another") == 1
        assert [waiting.pop(), waiting.pop()] == [[(2, 1), (3, 1), (4, 1), (5, 1)], [(6, 1), (7, 1)]]
        assert waiting.pop() == [(1, 1)]
        assert waiting.pop() == [(8, 1), (9, 1), (10, 1)]

    run(scenario())


def test_rows_of_a_call_that_ended_weigh_nothing() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        call = waiting.add(3, owner="a", weights=[2, 5, 2])
        waiting.pop(limit=2)
        assert (waiting.queue.rows, waiting.queue.weight) == (2, 7)
        waiting.queue.remove(call)
        assert (waiting.queue.rows, waiting.queue.weight, waiting.all_models.held, waiting.ahead_of("b")) == (
            0,
            0,
            0,
            0,
        )

    run(scenario())
