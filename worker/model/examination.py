"""The cause of rows without a prediction: the values that a caller sent, or the model."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.models.manifest import Manifest, Sample
from shared.errors import PredictionError
from shared.observability.log_limit import LogLimit
from shared.observability.logs import PRIVATE
from shared.queue.contract import ErrorCode, Row
from worker.model.bisection import Attempt
from worker.model.loader import is_time_limit, name_of
from worker.model.predictions import NON_FINITE, MalformedAnswer, row_error
from worker.model.rows import Rows

logger = logging.getLogger(__name__)

OURS = (MalformedAnswer, MemoryError, OSError, ImportError)
"""Errors that no value of a row excuses."""

COLUMNS_MAX = 3
"""Columns that are named as the cause of a row at most."""

SECONDS_MAX = 0.5
"""Time in seconds after which no further column is tried."""

LINES_MAX, PERIOD_SECONDS = 5, 10.0
"""Causes that a version logs, and whose columns it searches, in each period of this many seconds at most."""

Cause = tuple[Any, ...]


class Examiner:
    """An examiner of the failing rows of one version.

    A row is refused (`row_rejected`) if the estimator fails for it twice and predicts a row that it predicted at
    export. Otherwise the model has failed (`prediction_failed`).
    """

    def __init__(self, manifest: Manifest, samples: Sequence[Sample]) -> None:
        """Take the first of `samples`, if there are any, as a row that the estimator predicts."""
        self._label = f"{manifest.name} {manifest.version}"
        self._names = [feature.name for feature in manifest.features]
        self._sample: Row | None = samples[0].row if samples else None
        self._limit = LogLimit(LINES_MAX, PERIOD_SECONDS)

    def examine(
        self, attempt: Attempt, rows: Rows, errors: dict[int, Exception], non_finite: Iterable[int]
    ) -> dict[int, PredictionError]:
        """Return the errors that the callers get, by the position of the row; log a line per cause.

        Args:
            attempt: The function that predicts rows.
            rows: All rows of the batch.
            errors: Position of a row -> the error that the estimator raised for this row alone.
            non_finite: Positions of rows for which the estimator answered NaN or infinity.
        """
        causes: dict[Cause, list[int]] = {}
        for at, error in errors.items():
            causes.setdefault(_cause(error), []).append(at)
        for at in non_finite:
            causes.setdefault((NON_FINITE,), []).append(at)
        has_failed = bool(causes) and self._sample is not None and not _accepts(attempt, [self._sample])
        found: dict[int, PredictionError] = {}
        for positions in causes.values():
            raised, row = errors.get(positions[0]), [*rows[positions[0]]]
            what = _what(raised)
            code = ErrorCode.PREDICTION_FAILED
            if not has_failed and not isinstance(raised, OURS):
                if _accepts(attempt, [row]):
                    what += ", but not at a second try"
                else:
                    code = ErrorCode.ROW_REJECTED
            self._log(attempt, row, code, what, len(positions), raised)
            found.update({at: row_error(at, code, what) for at in positions})
        return found

    def _log(
        self, attempt: Attempt, row: Row, code: ErrorCode, what: str, n_rows: int, error: Exception | None
    ) -> None:
        """Log a cause, with the columns to blame for the first of its rows."""
        before = self._limit.admit()
        if before is None:
            return
        level, blamed = logging.ERROR, ""
        if code is ErrorCode.ROW_REJECTED:
            level = logging.WARNING
            if self._sample is not None and len(row) == len(self._sample):
                names = [self._names[at] for at in _columns_to_blame(attempt, row, self._sample)]
                blamed = f" because of {', '.join(names)}" if names else ""
        # The message of a foreign exception may hold values of the row, so neither log nor caller get it.
        trace: Any = None if error is None else (type(error), error, error.__traceback__)
        text = "%s: %d rows failed as %s: %s%s%s"
        logger.log(level, text, self._label, n_rows, code.value, what, blamed, before, exc_info=trace, extra=PRIVATE)


def _columns_to_blame(attempt: Attempt, row: Row, sample: Row) -> list[int]:
    """Return the columns with which an estimator accepts a row if they have the values of a sample.

    The result is empty if there are more than COLUMNS_MAX, or if there is no time to find them all.
    """
    stop_at = time.perf_counter() + SECONDS_MAX
    blamed: list[int] = []
    for _ in range(COLUMNS_MAX):
        # The least number of first columns that must be replaced: the last of them is to blame.
        low, high = 1, len(row)
        while low < high:
            if time.perf_counter() > stop_at:
                return []
            middle = (low + high) // 2
            if _accepts(attempt, [_replaced(row, sample, [*blamed, *range(middle)])]):
                high = middle
            else:
                low = middle + 1
        blamed.append(low - 1)
        if _accepts(attempt, [_replaced(row, sample, blamed)]):
            return sorted(blamed)
    return []


def _replaced(row: Any, sample: Row, columns: Iterable[int]) -> Row:
    """Return a row with the values of a sample in these columns."""
    changed = [*row]
    for at in columns:
        changed[at] = sample[at]
    return changed


def _accepts(attempt: Attempt, rows: list[Row]) -> bool:
    """Return True if an estimator predicts all these rows."""
    try:
        return not attempt(rows).failures
    except Exception as error:
        if is_time_limit(error):
            raise
        return False


def _what(error: Exception | None) -> str:
    if error is None:
        return NON_FINITE
    if isinstance(error, MalformedAnswer):
        return f"the model's answer can't be used: {error}"
    return f"the model raised {name_of(error)}"


def _cause(error: Exception) -> Cause:
    """Return the type of an error with the line of code that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code, trace.tb_lineno) if trace is not None else ()
    return (type(error), *place)
