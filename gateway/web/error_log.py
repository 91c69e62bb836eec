"""A log line for every failed request, at a limited rate: an overload fails thousands of requests a second."""

import logging
import time
from collections.abc import Callable

from shared.observability.log_limit import LogLimit

logger = logging.getLogger(__name__)

LINES_PER_SECOND = 10


class ErrorLog:
    """A log of 5xx responses and of exceptions.

    Lines beyond the rate are counted, and the next line names their number.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = LogLimit(LINES_PER_SECOND, 1.0, clock)

    def write(self, method: str, route: str, status: int, code: str) -> None:
        """Log one response; the request's id is in the log's context."""
        before = self._limit.admit()
        if before is None:
            return
        level = logging.ERROR if status == 500 else logging.WARNING
        logger.log(level, "%s %s answered %d %s%s", method, route, status, code, before)

    def write_exception(self, request_id: str, error: Exception) -> None:
        """Log the exception in which a request has ended."""
        before = self._limit.admit()
        if before is not None:
            logger.error("request %s failed%s", request_id, before, exc_info=error)
