"""A log line for every failed request, at a limited rate: an overload fails thousands of requests a second."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LINES_PER_SECOND = 10


class ErrorLog:
    """A log of 5xx responses; lines beyond the rate are counted, and the next line names their number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = float("-inf")
        self._lines = 0
        self._suppressed = 0

    def write(self, method: str, route: str, status: int, code: str) -> None:
        """Log one response; the request's id is in the log's context."""
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES_PER_SECOND:
            self._suppressed += 1
            return
        suppressed, self._suppressed = self._suppressed, 0
        before = f", and {suppressed} more before" if suppressed else ""
        level = logging.ERROR if status == 500 else logging.WARNING
        logger.log(level, "%s %s answered %d %s%s", method, route, status, code, before)
