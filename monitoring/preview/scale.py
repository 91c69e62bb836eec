"""Axes: which values get a line and a text, and where a value lies."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high`, which are different, drawn from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value; of one beyond the axis, a pixel beyond it."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def finite(values: Iterable[float]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if math.isfinite(value)]


def bounds(
    values: Iterable[float], least: float | None = None, most: float | None = None, count: int = 5
) -> tuple[float, float]:
    """Where an axis begins and ends so that all values are on it, and its ends are ticks; `least` and `most` are given
    ends.
    """
    there = finite(values)
    low = min(there, default=0.0) if least is None else least
    high = max([*there, low], default=1.0) if most is None else most
    if high <= low:
        # One value only: half its size around it, or up to 1 from 0.
        high = low + (abs(low) / 2 if low else 1.0)
        low = low if least is not None or low >= 0 else low - abs(low) / 2
    step = step_between(low, high, count)
    if least is None:
        low = math.floor(low / step + 1e-9) * step
    if most is None:
        high = math.ceil(high / step - 1e-9) * step
    return low, high


def step_between(low: float, high: float, count: int) -> float:
    """The roundest distance (1, 2 or 5 and zeros) that makes at most about `count` parts."""
    raw = (high - low) / max(1, count)
    if raw <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values from `low` to `high`."""
    step = step_between(low, high, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # A product has no error that adds up; and no -0.
    return [index * step + 0.0 for index in range(first, last + 1)]


def time_ticks(start: float, end: float, count: int) -> list[tuple[float, str]]:
    """Round moments in UTC, and how they are written."""
    wanted = (end - start) / max(1, count)
    step = next((step for step in _TIME_STEPS if step >= wanted), 86_400 * math.ceil(wanted / 86_400))
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86_400 else "%m-%d"
    first = math.ceil(start / step) * step
    return [
        (moment, datetime.fromtimestamp(moment, timezone.utc).strftime(form))
        for moment in range(first, math.floor(end) + 1, step)
    ]
