"""The broker's clock: deadlines mean the same on every machine, and survive a step of the wall clock."""

import math
import time

DRIFT = 1e-4
"""Largest drift between the clocks of two machines, in seconds per second: ten times that of quartz."""


class BrokerClock:
    """Seconds since the epoch as Redis counts them: this machine's monotonic clock plus a measured offset.

    Before the first calibration it follows the local wall clock.
    """

    def __init__(self) -> None:
        self._offset_seconds = time.time() - time.monotonic()
        self._error_seconds = math.inf
        self._calibrated_at = 0.0
        self.stepped_seconds = 0.0
        """Sum of the steps that this clock has made: at the first reading, and where the broker's clock was set."""

    def now(self) -> float:
        """Return the broker's time, in seconds."""
        return time.monotonic() + self._offset_seconds

    def calibrate(self, reply: tuple[int, int], asked: float, answered: float) -> None:
        """Take a reply to Redis' TIME into account.

        A reading is wrong by half the round trip at most (Cristian 1989). So a slow reading does not replace a quick
        one until drift has made the quick one worse, unless the two contradict each other: then the broker's clock was
        set.

        Args:
            reply: Seconds and microseconds.
            asked: `time.monotonic()` before the command.
            answered: `time.monotonic()` after it.
        """
        seconds, microseconds = reply
        offset_seconds = seconds + microseconds / 1e6 - (asked + answered) / 2
        error_seconds = (answered - asked) / 2
        known_error_seconds = self._error_seconds + DRIFT * (answered - self._calibrated_at)
        contradiction = abs(offset_seconds - self._offset_seconds) > error_seconds + known_error_seconds
        if contradiction or self._error_seconds == math.inf:
            self.stepped_seconds += offset_seconds - self._offset_seconds
        if error_seconds <= known_error_seconds or contradiction:
            self._offset_seconds = offset_seconds
            self._error_seconds = error_seconds
            self._calibrated_at = answered
