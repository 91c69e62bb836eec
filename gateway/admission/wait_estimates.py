"""Estimates of how long a lane keeps new work waiting, from how fast it was served lately."""

import math
import time
from collections.abc import Callable

MEMORY_SECONDS = 10.0
"""Time of waiting after which what was served weighs a third (1/e)."""

ROWS_MEMORY_SECONDS = 1.0
"""The memory for rows: an overload takes time from the workers too, and callers do not wait until that is known."""

BATCH_KEPT = 0.9
"""Least share of what was known that remains after a batch: of slow batches about the last ten count."""

SERVED_KEPT = 10
"""Number of jobs that are always remembered, however long they took: a lane of slow jobs serves one now and then."""

DEVIATIONS = 2.0
"""Mean deviations above the average that a batch may take before it is a surprise, as in TCP's retransmission timer."""


class Pace:
    """Time that a lane was busy, and the number of items that it served in that time; both sums fade."""

    def __init__(self, memory_seconds: float, kept_at_least: float = 0.0) -> None:
        self._memory_seconds = memory_seconds
        self._kept_at_least = kept_at_least
        self.busy_seconds = self.served = 0.0

    def add(self, seconds: float, served: float, forgetting: bool = True) -> None:
        """Add a span of time in which something always waited, and the number of items served in it."""
        kept = max(math.exp(-seconds / self._memory_seconds), self._kept_at_least) if forgetting else 1.0
        self.busy_seconds = self.busy_seconds * kept + seconds
        self.served = self.served * kept + served


class JobWaitEstimate:
    """The wait in the bulk lane: the number of jobs that wait, times the seconds that each job took lately.

    `waiting * busy_seconds / (served + 1)`: both sums fade, and only time in which a job waited counts, for only then
    does the lane do all it can. The one more is the job that may be about to be served: so a lane in which nothing
    moves looks worse with every second, and not endless at once.

    The seconds include everything that costs the lane time: computing, Celery, other lanes and other gateways. The
    estimate takes the jobs that wait to be as expensive as those that were served.
    """

    def __init__(self, longest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`longest_seconds` is the longest time for which a job waits: until it expires."""
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._observed_at = clock()
        self._waiting = 0
        self._served_total = 0
        self._pace = Pace(MEMORY_SECONDS)

    def observe(self, waiting: int, served_total: int) -> None:
        """Take the number of jobs that wait now and the number ever served; to be called about once a second."""
        now = self._clock()
        served = served_total - self._served_total
        if waiting and self._waiting and served >= 0:
            self._pace.add(now - self._observed_at, served, forgetting=self._pace.served > SERVED_KEPT)
        self._observed_at, self._waiting, self._served_total = now, waiting, served_total

    def seconds(self, slots: int) -> float:
        """Return the wait as last observed; without slots it is the longest one."""
        if not slots:
            return self._longest_seconds
        return min(self._waiting * self._pace.busy_seconds / (self._pace.served + 1), self._longest_seconds)


class RowWaitEstimate:
    """The wait of one model's rows, estimated from batch to batch, because callers have no more patience than that.

    The lane is blocked from a batch that left rows behind for want of a slot until one that did not. Only in that time
    is anything learned of what the lane can do, and only then does a row wait: while the lane is idle, the estimate is
    zero, whatever was known before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.blocked = False
        """True while rows wait for want of a slot."""
        self._since = clock()
        self._last_rows = 0
        self._pace = Pace(ROWS_MEMORY_SECONDS, BATCH_KEPT)
        self._answer_seconds = self._answer_deviation = 0.0

    def batch_left(self, rows: int, blocked: bool) -> float:
        """Take note of a batch that leaves now.

        Args:
            rows: The number of its rows.
            blocked: True if it leaves rows behind for want of a slot.

        Returns:
            The time, for `batch_answered`.
        """
        now = self._clock()
        if self.blocked:
            self._pace.add(now - self._since, rows)
            self._last_rows = rows
        self.blocked, self._since = blocked, now
        return now

    def became_idle(self) -> None:
        """Take note that no row waits for a slot any more: the callers have gone, or the workers have."""
        # The time since the last batch is not counted: it does not say how fast rows are served.
        self.blocked = False

    def batch_answered(self, left_at: float) -> None:
        """Take note of the answer to the batch that left at this time."""
        seconds = self._clock() - left_at
        known = self._answer_seconds or seconds
        self._answer_deviation += 0.1 * (abs(seconds - known) - self._answer_deviation)
        self._answer_seconds = known + 0.1 * (seconds - known)

    @property
    def answer_seconds(self) -> float:
        """Time from a batch's leaving to its answer that few batches exceed."""
        return self._answer_seconds + DEVIATIONS * self._answer_deviation

    def seconds(self, rows: int) -> float:
        """Return the time until this number of waiting rows has left; 0 if no row has to wait, or nothing is known."""
        if not self.blocked or not self._last_rows:
            return 0.0
        busy_seconds, served = self._pace.busy_seconds, self._pace.served
        # As many rows as left last may be about to leave again; if nothing moves, the lane looks worse with time.
        stuck_seconds = self._clock() - self._since
        return rows * max(busy_seconds / served, (busy_seconds + stuck_seconds) / (served + self._last_rows))
