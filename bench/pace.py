"""Durations of the parts of a run."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Pace:
    """Rounds, seconds of load and sizes."""

    rounds: int
    measure_rounds: int
    seconds: int
    """Seconds of closed-loop load per number of connections."""

    warm_up_seconds: int
    open_seconds: float
    """Seconds of constant-rate load per offered rate."""

    rate_step: int
    """Step through the offered rates: 1 for every rate, 2 for every second one."""

    backlog_seconds: int
    """Seconds of submissions, which are then drained."""

    forest_trees: int
    """Trees of the forest, of 1.8 MB each."""

    overload_seconds: int
    """Seconds of three times the workers' capacity."""

    def with_rounds(self, rounds: int) -> "Pace":
        """Return a copy with another number of rounds."""
        return replace(self, rounds=rounds, measure_rounds=rounds)


FULL = Pace(
    rounds=3,
    measure_rounds=2,
    seconds=3,
    warm_up_seconds=1,
    open_seconds=2.0,
    rate_step=1,
    backlog_seconds=8,
    forest_trees=110,
    overload_seconds=15,
)
"""A run within 15 minutes."""

SHORT = Pace(
    rounds=1,
    measure_rounds=1,
    seconds=1,
    warm_up_seconds=1,
    open_seconds=1.0,
    rate_step=4,
    backlog_seconds=1,
    forest_trees=5,
    overload_seconds=4,
)
"""A run within 2 minutes: shows that the bench works, and the order of magnitude."""
