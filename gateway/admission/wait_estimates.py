"""How long a lane would keep someone waiting who comes now, told by how fast it was served of late."""

import math
import time
from collections.abc import Callable

MEMORY_SECONDS = 10.0
"""Time of waiting after which what was served weighs a third."""

ROWS_MEMORY_SECONDS = 1.0
"""The same of rows: an overload takes time from the workers too, and callers do not wait until that is known."""

BATCH_KEPT = 0.9
"""What a batch leaves at least of what was known: of slow ones about the last ten count."""

SERVED_KEPT = 10
"""So many jobs at least are remembered, however long that takes: a lane of slow ones serves one now and then."""

DEVIATIONS = 2.0
"""How much longer than the average a batch may take before it is a surprise, as TCP counts its retransmission timer."""


class Pace:
    """Seconds that each of what a lane serves costs it, of late, while it does what it can."""

    def __init__(self, memory_seconds: float, kept_at_least: float = 0.0) -> None:
        self._memory_seconds = memory_seconds
        self._kept_at_least = kept_at_least
        self.busy_seconds = self.served = 0.0

    def passed(self, seconds: float, served: float, forgetting: bool = True) -> None:
        """So much time, in which something waited throughout, has brought so many to an end."""
        kept = max(math.exp(-seconds / self._memory_seconds), self._kept_at_least) if forgetting else 1.0
        self.busy_seconds = self.busy_seconds * kept + seconds
        self.served = self.served * kept + served


class EstimatedWait:
    """What waits, times the seconds that each of it took lately while something waited.

    `waiting * busy_seconds / (served + 1)`: both sums fade, and only time in which something waited counts, for only
    then does the lane do what it can. The one more is what may be about to be served: so a lane in
    which nothing moves looks worse with every second, and not endless at once.

    It holds for everything that costs the lane time: computing, Celery, other lanes and other gateways. It takes what
    waits for as dear as what was served.
    """

    def __init__(self, longest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`longest_seconds` is how long anything waits at most: until a job expires."""
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._looked_at = clock()
        self._waiting = 0
        self._served_total = 0
        self._pace = Pace(MEMORY_SECONDS)

    def look(self, waiting: int, served_total: int) -> None:
        """So many wait now, and so many were served since ever; to be called about once a second."""
        now = self._clock()
        served = served_total - self._served_total
        if waiting and self._waiting and served >= 0:
            self._pace.passed(now - self._looked_at, served, forgetting=self._pace.served > SERVED_KEPT)
        self._looked_at, self._waiting, self._served_total = now, waiting, served_total

    def seconds(self, slots: int) -> float:
        """The wait, as of the last look; without slots as long as can be."""
        if not slots:
            return self._longest_seconds
        return min(self._waiting * self._pace.busy_seconds / (self._pace.served + 1), self._longest_seconds)


class RowsWait:
    """The same of the rows of one model, from batch to batch, for that is how long their callers' patience lasts.

    A lane is blocked while rows were left behind for want of a slot. Only then is anything known of what it can do,
    and only then does anyone wait: a lane that is not blocked takes everybody, whatever it knew before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.blocked = False
        self._since = clock()
        self._last_rows = 0
        self._pace = Pace(ROWS_MEMORY_SECONDS, BATCH_KEPT)
        self._answer_seconds = self._answer_deviation = 0.0

    def left(self, rows: int, blocked: bool) -> float:
        """A batch has left, and `blocked` says whether others had to stay; the time, for `answered`.

        No rows: those who waited have gone, or the workers have. That time says nothing.
        """
        now = self._clock()
        if self.blocked and rows:
            self._pace.passed(now - self._since, rows)
            self._last_rows = rows
        self.blocked, self._since = blocked, now
        return now

    def answered(self, left_at: float) -> None:
        """A batch that left then was answered."""
        seconds = self._clock() - left_at
        known = self._answer_seconds or seconds
        self._answer_deviation += 0.1 * (abs(seconds - known) - self._answer_deviation)
        self._answer_seconds = known + 0.1 * (seconds - known)

    @property
    def answer_seconds(self) -> float:
        """How long a batch takes to be answered once it has left, and not only on average."""
        return self._answer_seconds + DEVIATIONS * self._answer_deviation

    def seconds(self, rows: int) -> float:
        """How long it takes until so many rows that wait have left; 0 if nobody has to wait, or nothing is known."""
        if not self.blocked or not self._last_rows:
            return 0.0
        busy_seconds, served = self._pace.busy_seconds, self._pace.served
        # What was sent last may be about to be sent again; a lane in which nothing moves looks worse by and by.
        stuck_seconds = self._clock() - self._since
        return rows * max(busy_seconds / served, (busy_seconds + stuck_seconds) / (served + self._last_rows))
