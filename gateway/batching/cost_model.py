"""The cost of one model's batches, learned from replies, so that a batch can be bounded by compute time."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

FIRST_ROWS_MAX = 1024
"""Rows of a batch while no batch was observed yet."""

DECAY = 0.9
"""Weight that each batch keeps when a newer one is observed: about the last 10 count."""

FADING = 0.99
"""Share of a row's known cost that remains after each batch that says nothing about it.

The cost of the dearest row loses as much in each second with a batch that costs less: anybody can send many quick rows,
which leave in many batches.
"""

SPREAD_WORTH_KNOWING = 0.003
"""Variance of the rows per batch, in squares of their mean, below which it says nothing about the cost of a row."""

SLOW_TIMES_TARGET = 2.0
"""Cost of a batch of one row, in targets, above which a model is slow; at the target itself it would flicker."""

LONG_TIMES_TARGET = 10.0
"""Compute time of a batch, in targets, above which a model is slow, however many rows the batch had.

Callers can make rows that are dear together: that need a call of the estimator each, or texts that cost more than
others as long, behind cheap ones by which the batches became large.
"""


RECENT = 200
"""Number of seconds with batches after which one with rows of a weight that was not observed since tells nothing any
more."""


class _Dearest(NamedTuple):
    """The dearest row of batches with rows of like weights, which fades, and the number of the last second with one."""

    row_seconds: float
    batch_seconds: float
    """Seconds of the longest batch, which fades too."""
    observed: int


class BatchCost:
    """Compute seconds of a batch of n rows as `fixed + n * per_row`, by least squares over the last batches.

    Rows are counted by their weights.

    The fixed part matters: 500 trees cost 50 ms for one row and 51 ms for a hundred. If the whole cost were attributed
    to the rows, one row would look so expensive that only batches of one row would ever be tried.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self.fixed_seconds = 0.0
        self.row_seconds = 0.0
        self._dearest: dict[int, _Dearest] = {}
        """The dearest of the batches whose heaviest rows weigh about the same, by the number of bits of that weight."""
        self._second = 0
        self._n_seconds = 0
        """Number of seconds in which batches were observed."""
        self._cheapest_seconds = math.inf
        self._known_apart = False
        self._alike = True
        self._weight = 0.0
        self._rows = self._seconds = self._rows_squared = self._rows_seconds = 0.0
        self._largest_rows = 0.0

    def observe(self, rows: int, seconds: float, heaviest: int | None = None) -> None:
        """Take the compute time of a batch with this number of rows, and with the weight of its heaviest row.

        By default the batch is one row.
        """
        self._weight = self._weight * DECAY + 1
        self._rows = self._rows * DECAY + rows
        self._seconds = self._seconds * DECAY + seconds
        self._rows_squared = self._rows_squared * DECAY + rows * rows
        self._rows_seconds = self._rows_seconds * DECAY + rows * seconds
        self._largest_rows = max(self._largest_rows * DECAY, rows)
        self._note_dearest(rows if heaviest is None else heaviest, rows, seconds)
        self._cheapest_seconds = min(self._cheapest_seconds / FADING, seconds)
        self._fit()

    def _note_dearest(self, heaviest: int, rows: int, seconds: float) -> None:
        size, second = heaviest.bit_length(), int(self._clock())
        if second != self._second:
            self._second = second
            self._n_seconds += 1
        before = self._dearest.get(size, _Dearest(0.0, 0.0, 0))
        left = FADING if before.observed < self._n_seconds else 1.0
        dearest = max(before.row_seconds * left, seconds / rows)
        self._dearest[size] = _Dearest(dearest, max(before.batch_seconds * left, seconds), self._n_seconds)

    def _fit(self) -> None:
        mean_rows, mean_seconds = self._rows / self._weight, self._seconds / self._weight
        variance = self._rows_squared / self._weight - mean_rows**2
        covariance = self._rows_seconds / self._weight - mean_rows * mean_seconds
        self._alike = variance <= SPREAD_WORTH_KNOWING * mean_rows**2
        if not self._alike:
            self._known_apart = True
            self.row_seconds = max(0.0, covariance / variance)
        elif not self._known_apart:
            self.row_seconds = mean_seconds / mean_rows
        elif mean_rows < 2:
            # Batches of one row do not tell what more rows cost. What was known fades, so that two are tried again.
            self.row_seconds *= FADING
        self.row_seconds = min(self.row_seconds, mean_seconds / mean_rows)
        self.fixed_seconds = mean_seconds - self.row_seconds * mean_rows
        if self._alike and self.fixed_seconds > self._cheapest_seconds:
            # Every batch has the fixed part: of texts of one length, some cost more for what is in them.
            self.fixed_seconds = self._cheapest_seconds
            self.row_seconds = (mean_seconds - self.fixed_seconds) / mean_rows

    def rows_within(self, target_seconds: float) -> int:
        """Return the number of rows of a batch that takes the target time, at least 1.

        If the fixed part is above half the target, the rows may cost as much as the fixed part does: half of the time
        is then for rows. Sizes that were not observed yet are tried step by step: twice the largest recent batch,
        unless the target would be kept even if only rows cost time; and half, if all batches are alike and too long.
        The first batch may have FIRST_ROWS_MAX.
        """
        if not self._weight:
            return FIRST_ROWS_MAX
        if not self._seconds:
            return max(1, int(2 * self._largest_rows))
        mean_rows, mean_seconds = self._rows / self._weight, self._seconds / self._weight
        limit = max(2 * self._largest_rows, target_seconds * mean_rows / mean_seconds)
        if self._known_apart and self.row_seconds:
            limit = min(limit, max(target_seconds - self.fixed_seconds, self.fixed_seconds) / self.row_seconds)
        if self._alike and mean_seconds > target_seconds:
            limit = min(limit, max(mean_rows / 2, 2))
        return max(1, int(limit))

    def is_slow(self, target_seconds: float, rows: int = 1) -> bool:
        """Return True if a row takes much longer than the target, or may: also if none so heavy was observed.

        A text's cost depends on more than its length. So it may be that of the dearest row of some minutes with texts
        as long: cheap ones, which anybody can send, do not hide it. And it may grow faster than the length: what long
        texts cost makes no short one slow, if batches of such were observed.
        """
        size = rows.bit_length()
        recent = {
            each: dearest
            for each, dearest in self._dearest.items()
            if each <= size and dearest.observed > self._n_seconds - RECENT
        }
        if any(each.batch_seconds > LONG_TIMES_TARGET * target_seconds for each in recent.values()):
            return True
        seconds = rows * max((each.row_seconds for each in recent.values()), default=0.0)
        if size in recent:
            seconds += min(self.fixed_seconds, self._cheapest_seconds)
        else:
            seconds = max(seconds, self.fixed_seconds + rows * self.row_seconds)
        return rows > 2 * self._largest_rows or seconds > SLOW_TIMES_TARGET * target_seconds
