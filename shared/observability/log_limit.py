"""A limit on log lines that a flood of equal events would write."""

import logging
import time
from collections.abc import Callable


class LogLimit:
    """A limit on lines per period; lines beyond it are counted, for the next line to name their number."""

    def __init__(self, lines: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow this many lines in each period of this many seconds."""
        self._lines_max = lines
        self._seconds = seconds
        self._clock = clock
        self._began_at = float("-inf")
        self._lines = 0
        self._suppressed = 0

    def admit(self) -> str | None:
        """Return None if a line must not be written; else its end, which names the lines suppressed before it."""
        now = self._clock()
        if now - self._began_at >= self._seconds:
            self._began_at, self._lines = now, 0
        self._lines += 1
        if self._lines > self._lines_max:
            self._suppressed += 1
            return None
        suppressed, self._suppressed = self._suppressed, 0
        return f", and {suppressed} more before" if suppressed else ""


class LimitedLines(logging.Filter):
    """A filter that lets a limited number of a logger's lines through, 10 in 10 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._limit = LogLimit(10, 10.0, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a line beyond the limit; add the number of the lines left out before it to another one."""
        before = self._limit.admit()
        if before:
            record.msg, record.args = f"{record.getMessage().rstrip()}{before}", ()
        return before is not None
