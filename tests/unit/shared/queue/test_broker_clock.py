import random
from collections.abc import Callable

import pytest

from shared.queue.broker_clock import DRIFT, BrokerClock


class Machines:
    """This machine's two clocks and the broker's, all set by a test."""

    def __init__(self) -> None:
        self.monotonic_seconds = 5_000.0
        self.wall_seconds = 1_000_000.0
        self.broker_ahead_seconds = 1_795_000_000.25

    def monotonic(self) -> float:
        return self.monotonic_seconds

    def time(self) -> float:
        return self.wall_seconds

    @property
    def broker(self) -> float:
        """The true time at the broker."""
        return self.monotonic_seconds + self.broker_ahead_seconds

    def pass_(self, seconds: float) -> None:
        self.monotonic_seconds += seconds
        self.wall_seconds += seconds

    def ask(self, clock: BrokerClock, there_seconds: float, back_seconds: float) -> None:
        """Ask for the broker's TIME, with these seconds for the way there and back."""
        asked = self.monotonic_seconds
        self.pass_(there_seconds)
        seconds, microseconds = divmod(round(self.broker * 1e6), 1_000_000)
        self.pass_(back_seconds)
        clock.calibrate((seconds, microseconds), asked, self.monotonic_seconds)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    machines = Machines()
    monkeypatch.setattr("shared.queue.broker_clock.time", machines)
    return machines


@pytest.fixture
def error_seconds(machines: Machines) -> Callable[[BrokerClock], float]:
    return lambda clock: abs(clock.now() - machines.broker)


def test_before_any_reading_it_follows_the_wall_clock(machines: Machines) -> None:
    clock = BrokerClock()
    machines.pass_(7)

    assert clock.now() == pytest.approx(machines.wall_seconds, abs=1e-6)


def test_a_step_of_the_wall_clock_changes_nothing(machines: Machines) -> None:
    clock = BrokerClock()
    machines.ask(clock, 0.001, 0.001)
    before = clock.now()

    machines.wall_seconds += 3600

    assert clock.now() == before


def test_the_first_reading_is_taken_however_far_and_slow_it_is(
    machines: Machines, error_seconds: Callable[[BrokerClock], float]
) -> None:
    clock = BrokerClock()
    machines.ask(clock, 2.0, 2.0)

    assert error_seconds(clock) < 1e-5


def test_the_error_is_half_the_round_trip_at_most(
    machines: Machines, error_seconds: Callable[[BrokerClock], float]
) -> None:
    ways = random.Random(1)
    for _ in range(200):
        there, back = ways.expovariate(100), ways.expovariate(100)
        clock = BrokerClock()
        machines.ask(clock, there, back)

        assert error_seconds(clock) <= (there + back) / 2 + 1e-5


def test_a_lopsided_way_makes_that_error_in_full(
    machines: Machines, error_seconds: Callable[[BrokerClock], float]
) -> None:
    clock = BrokerClock()
    machines.ask(clock, 0.2, 0.0)

    assert error_seconds(clock) == pytest.approx(0.1, abs=1e-5)


def test_a_slow_reading_does_not_replace_a_quick_one(
    machines: Machines, error_seconds: Callable[[BrokerClock], float]
) -> None:
    clock = BrokerClock()
    machines.ask(clock, 0.001, 0.001)
    machines.ask(clock, 0.4, 0.0)

    assert error_seconds(clock) < 0.001


def test_a_quick_reading_replaces_a_slow_one(machines: Machines, error_seconds: Callable[[BrokerClock], float]) -> None:
    clock = BrokerClock()
    machines.ask(clock, 0.4, 0.0)
    machines.ask(clock, 0.001, 0.001)

    assert error_seconds(clock) < 0.001


def test_with_time_a_slow_reading_is_better_than_an_old_quick_one(
    machines: Machines, error_seconds: Callable[[BrokerClock], float]
) -> None:
    clock = BrokerClock()
    machines.ask(clock, 0.001, 0.001)
    # The clocks part within what is allowed for, and by less than a slow reading could tell: no contradiction.
    machines.pass_(0.1 / DRIFT)
    machines.broker_ahead_seconds += 0.03
    machines.ask(clock, 0.04, 0.04)

    assert error_seconds(clock) < 1e-5


def test_so_long_as_drift_is_less_than_its_error_a_slow_reading_waits(
    machines: Machines, error_seconds: Callable[[BrokerClock], float]
) -> None:
    clock = BrokerClock()
    machines.ask(clock, 0.001, 0.001)
    machines.pass_(0.02 / DRIFT)
    machines.ask(clock, 0.08, 0.0)

    assert error_seconds(clock) < 0.001


@pytest.mark.parametrize("step_seconds", [3600.0, -3600.0, 1.0, -1.0])
def test_a_slow_reading_that_contradicts_is_believed_for_then_the_brokers_clock_was_set(
    machines: Machines, error_seconds: Callable[[BrokerClock], float], step_seconds: float
) -> None:
    clock = BrokerClock()
    machines.ask(clock, 0.001, 0.001)
    machines.broker_ahead_seconds += step_seconds
    machines.ask(clock, 0.2, 0.2)

    assert error_seconds(clock) < 1e-5
