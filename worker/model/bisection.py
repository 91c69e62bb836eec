"""The search for the rows of a batch for which an estimator raises, in a bounded number of its calls."""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import PredictionError
from worker.model.loader import is_time_limit
from worker.model.predictions import Predictions
from worker.model.rows import Rows

ATTEMPTS_MAX = 2_000
"""Calls of the estimator after which no further bad row of a call that has one already is searched."""

SECONDS_MAX = 0.5
"""Time in seconds after which no further bad row of a call that has one already is searched."""

Attempt = Callable[[Rows], Predictions]
"""A function that predicts rows with one call of the estimator, and raises what the estimator raises."""


class Bisection:
    """The predictions of rows in ever smaller parts, until each bad row is alone.

    Halving finds one bad row among n in log2(n) steps instead of n. A call of the batch fails as a whole if one of its
    rows does, so only its first bad row must be found. The others are searched within ATTEMPTS_MAX and SECONDS_MAX.
    """

    def __init__(self, attempt: Attempt, rows: Rows, sizes: Sequence[int], error: Exception) -> None:
        """Find the bad rows.

        Args:
            attempt: The function that predicts rows.
            rows: The rows of all calls, one call after another.
            sizes: The number of rows of each call.
            error: The error that the estimator raised for all rows together.
        """
        self.errors: dict[int, Exception] = {}
        """Position of a row -> the error that the estimator raised for this row alone."""
        self.untried: list[int] = []
        """Positions of rows without a prediction that were not tried alone; an earlier row of their call is bad."""
        self.failures: dict[int, PredictionError] = {}
        """Position of a row -> its error, of rows that were predicted with an answer that can't be used."""
        self._attempt = attempt
        self._rows = rows
        self._ends = list(accumulate(sizes))
        self._values: list[Any] = [None] * len(rows)
        self._probabilities: list[Any] | None = None
        self._confidence: list[NDArray[np.float64]] = []
        self._bad_calls: set[int] = set()
        self._attempts = 0
        self._stop_at = time.perf_counter() + SECONDS_MAX
        if len(rows) == 1:
            self._fail(0, error)
        elif len(rows) > 1:
            self._search()

    def predictions(self, has_probabilities: bool) -> Predictions:
        """Return the predictions; rows without one have no error yet unless they are in `failures`."""
        probabilities = self._probabilities or ([None] * len(self._values) if has_probabilities else None)
        confidence = np.concatenate([np.empty(0), *self._confidence])
        return Predictions(self._values, probabilities, confidence, failures=self.failures)

    def _search(self) -> None:
        # A part with the number of unpredicted rows before it: while that number is the same when its turn comes, all
        # that was tried of the part around it is good, so the bad row is in it. None if it may be good.
        pending: list[tuple[int, int, int | None]] = [(0, len(self._rows), 0)]
        while pending:
            start, end, n_before = pending.pop()
            if self._is_spent() and self._call_of(start) in self._bad_calls and self._is_one_call(start, end):
                self.untried.extend(range(start, end))
                continue
            if end - start == 1:
                self._try(start, end)
                continue
            is_bad = n_before == self._n_unpredicted
            if not is_bad and not self._most_are_bad(start):
                if self._try(start, end):
                    continue
                is_bad = True
            middle = self._middle(start, end)
            pending += [(middle, end, self._n_unpredicted if is_bad else None), (start, middle, None)]

    def _try(self, start: int, end: int) -> bool:
        """Predict a part; return True if the estimator did not raise."""
        self._attempts += 1
        try:
            answer = self._attempt(self._rows[start:end])
        except Exception as error:
            if is_time_limit(error):
                raise
            if end - start == 1:
                self._fail(start, error)
            return False
        self._values[start:end] = answer.predictions
        probabilities = answer.probability_rows()
        if probabilities is not None:
            self._probabilities = self._probabilities or [None] * len(self._rows)
            self._probabilities[start:end] = probabilities
        self._confidence.append(answer.confidence)
        self.failures.update({start + at: error for at, error in answer.failures.items()})
        return True

    def _fail(self, position: int, error: Exception) -> None:
        self.errors[position] = error
        self._bad_calls.add(self._call_of(position))

    def _middle(self, start: int, end: int) -> int:
        """Return the end of a call near the middle, or the middle itself inside a call."""
        middle = (start + end) // 2
        near = self._call_of(middle)
        ends = [each for each in self._ends[max(near - 1, 0) : near + 1] if start < each < end]
        return min(ends, key=lambda each: abs(each - middle), default=middle)

    def _call_of(self, position: int) -> int:
        return bisect_left(self._ends, position + 1)

    def _is_one_call(self, start: int, end: int) -> bool:
        return self._call_of(start) == self._call_of(end - 1)

    def _is_spent(self) -> bool:
        return self._attempts >= ATTEMPTS_MAX or time.perf_counter() > self._stop_at

    def _most_are_bad(self, n_searched: int) -> bool:
        """Return True if halves are not worth a try, because more than a quarter of the searched rows are bad."""
        return len(self.errors) * 4 > max(n_searched, 8)

    @property
    def _n_unpredicted(self) -> int:
        return len(self.errors) + len(self.untried)
