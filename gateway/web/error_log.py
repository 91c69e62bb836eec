"""A line in the log for every request that failed, and no flood of them: in an overload that is thousands a second."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LINES_PER_SECOND = 10


class FailureLog:
    """Tells of answers with 5xx; what is too much in a second is counted and told with the next line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = float("-inf")
        self._lines = 0
        self._untold = 0

    def tell(self, method: str, route: str, status: int, code: str) -> None:
        """A request was answered so; its id is in the log's context."""
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES_PER_SECOND:
            self._untold += 1
            return
        untold, self._untold = self._untold, 0
        before = f", and {untold} more before" if untold else ""
        level = logging.ERROR if status == 500 else logging.WARNING
        logger.log(level, "%s %s answered %d %s%s", method, route, status, code, before)
