import pytest

from gateway.admission.wait_estimates import MEMORY_SECONDS, ROWS_MEMORY_SECONDS, JobWaitEstimate, RowWaitEstimate

LONGEST_SECONDS = 60.0


class Lane:
    """A lane that serves a number of jobs a second, observed twice a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting = 0.0
        self.served = 0.0
        self.wait = JobWaitEstimate(LONGEST_SECONDS, clock=lambda: self.now)

    def pass_(self, seconds: float, per_second: float, arrivals: float = 0.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.5
            self.waiting += arrivals / 2
            gone = min(self.waiting, per_second / 2)
            self.waiting -= gone
            self.served += gone
            self.observe()

    def observe(self) -> None:
        self.wait.observe(int(self.waiting), int(self.served))

    def come(self, many: float) -> None:
        self.waiting += many
        self.observe()


@pytest.fixture
def lane() -> Lane:
    return Lane()


def test_where_nothing_waits_nobody_would(lane: Lane) -> None:
    lane.pass_(10, per_second=5)

    assert lane.wait.seconds(slots=2) == 0


def test_without_workers_the_wait_is_as_long_as_can_be(lane: Lane) -> None:
    assert lane.wait.seconds(slots=0) == LONGEST_SECONDS
    lane.come(1)
    assert lane.wait.seconds(slots=0) == LONGEST_SECONDS


@pytest.mark.parametrize("per_second", [3, 20, 1000])
def test_it_is_how_long_it_then_takes(lane: Lane, per_second: float) -> None:
    lane.come(20 * per_second)
    lane.pass_(5, per_second)

    assert lane.wait.seconds(slots=1) == pytest.approx(15, rel=0.1)
    lane.pass_(10, per_second)
    assert lane.wait.seconds(slots=1) == pytest.approx(5, rel=0.1)


def test_idle_times_say_nothing_of_how_fast_it_can_be(lane: Lane) -> None:
    lane.come(1000)
    lane.pass_(9, per_second=100)
    lane.pass_(3600, per_second=100, arrivals=1)

    lane.come(500)

    assert lane.wait.seconds(slots=1) == pytest.approx(5, rel=0.1)


def test_a_lane_that_stands_still_looks_worse_and_worse_up_to_the_longest_wait(lane: Lane) -> None:
    lane.come(10)
    seen = []
    for _ in range(20):
        lane.pass_(0.5, per_second=0)
        seen.append(lane.wait.seconds(slots=1))

    assert seen[0] == 5, "ten, and none of them within half a second"
    assert seen == sorted(seen)
    assert seen[-1] == LONGEST_SECONDS


def test_it_follows_when_the_lane_becomes_slower(lane: Lane) -> None:
    lane.come(100_000)
    lane.pass_(60, per_second=1000)
    lane.waiting = 100
    lane.pass_(6 * MEMORY_SECONDS, per_second=10, arrivals=10)

    assert lane.wait.seconds(slots=1) == pytest.approx(100 / 10, rel=0.3)


def test_a_lane_that_serves_one_now_and_then_is_known_by_its_last_ones(lane: Lane) -> None:
    lane.wait = JobWaitEstimate(86_400, clock=lambda: lane.now)
    lane.come(100)
    lane.pass_(600, per_second=0.05)

    assert lane.wait.seconds(slots=1) == pytest.approx(70 * 20, rel=0.2)


def test_a_broker_that_forgot_its_counts_is_no_negative_rate(lane: Lane) -> None:
    lane.served = 1000
    lane.come(10)
    lane.pass_(5, per_second=1)
    lane.served = 0
    lane.pass_(5, per_second=0)

    assert lane.wait.seconds(slots=1) > 0


class Batches:
    """A lane from which batches leave."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wait = RowWaitEstimate(clock=lambda: self.now)

    def leave(self, after_seconds: float, rows: int, blocked: bool = True) -> float:
        self.now += after_seconds
        return self.wait.batch_left(rows, blocked)


@pytest.fixture
def batches() -> Batches:
    return Batches()


def test_rows_wait_for_as_long_as_those_before_them_took(batches: Batches) -> None:
    for _ in range(100):
        batches.leave(0.1, rows=5)

    assert batches.wait.seconds(50) == pytest.approx(1.0, rel=0.1)


def test_nothing_is_known_before_a_batch_has_left_others_behind_and_the_next_has_left(batches: Batches) -> None:
    batches.leave(1.0, rows=1)
    batches.now += 10

    assert batches.wait.seconds(1000) == 0


def test_a_lane_that_is_not_blocked_keeps_nobody_waiting_whatever_it_knew(batches: Batches) -> None:
    for _ in range(100):
        batches.leave(1.0, rows=1)
    batches.leave(1.0, rows=1, blocked=False)

    assert batches.wait.seconds(1000) == 0


def test_time_in_which_nobody_was_left_behind_says_nothing(batches: Batches) -> None:
    for _ in range(100):
        batches.leave(10.0, rows=1, blocked=True)
        batches.leave(0.1, rows=1, blocked=False)

    batches.wait.batch_left(1, blocked=True)
    assert batches.wait.seconds(10) == pytest.approx(1.0, rel=0.2)


def test_a_lane_in_which_nothing_moves_looks_worse_by_and_by(batches: Batches) -> None:
    for _ in range(3):
        batches.leave(0.1, rows=1)
    before = batches.wait.seconds(10)
    batches.now += 1

    assert before < 2 < 3 < batches.wait.seconds(10)


def test_time_without_workers_says_nothing(batches: Batches) -> None:
    for _ in range(30):
        batches.leave(0.1, rows=1)
    batches.wait.became_idle()
    batches.now += 60.0
    batches.leave(0.1, rows=1)

    assert batches.wait.seconds(10) == pytest.approx(1.0)


def test_an_outage_is_soon_forgotten(batches: Batches) -> None:
    for _ in range(100):
        batches.leave(0.1, rows=10)
    batches.leave(10.0, rows=10)
    assert batches.wait.seconds(100) > 3

    for _ in range(int(5 * ROWS_MEMORY_SECONDS / 0.1)):
        batches.leave(0.1, rows=10)
    assert batches.wait.seconds(100) == pytest.approx(1.0, rel=0.2)


def test_of_slow_batches_more_than_the_last_counts(batches: Batches) -> None:
    for _ in range(30):
        batches.leave(10.0, rows=5)
        batches.leave(0.0, rows=5)

    assert batches.wait.seconds(50) == pytest.approx(50.0, rel=0.15)


def test_what_changed_is_known_soon(batches: Batches) -> None:
    for _ in range(300):
        batches.leave(0.1, rows=10)
    for _ in range(int(3 * ROWS_MEMORY_SECONDS / 0.1)):
        batches.leave(0.1, rows=5)

    assert batches.wait.seconds(100) == pytest.approx(2.0, rel=0.1)


def test_how_long_an_answer_takes_is_the_average_and_more_if_it_varies(batches: Batches) -> None:
    for seconds in [0.2] * 50:
        left_at = batches.leave(1.0, rows=1)
        batches.now += seconds
        batches.wait.batch_answered(left_at)
    assert batches.wait.answer_seconds == pytest.approx(0.2)

    for seconds in [0.1, 0.3] * 50:
        left_at = batches.leave(1.0, rows=1)
        batches.now += seconds
        batches.wait.batch_answered(left_at)
    assert batches.wait.answer_seconds == pytest.approx(0.4, rel=0.1)
