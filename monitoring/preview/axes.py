"""The axes of a chart over time, and its legend."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monitoring.preview import svg
from monitoring.preview.colours import Theme
from monitoring.preview.fields import Field
from monitoring.preview.period import Period
from monitoring.preview.scale import Scale, bounds, finite, ticks, time_ticks
from monitoring.preview.svg import Box
from monitoring.preview.units import size_of_one

TEXT_SIZE = 11
LINE_HEIGHT = 18
TIME_HEIGHT = 20

Mark = tuple[float, str]
"""A value on an axis, and what is written there."""


@dataclass(frozen=True)
class Entry:
    """A series in a legend."""

    colour: str
    name: str
    value: str = ""

    @property
    def width(self) -> float:
        """With the space behind it."""
        return 20 + svg.text_width(f"{self.name}  {self.value}", svg.SIZE) + 16


def ends(field: Field, values: Iterable[float]) -> tuple[float, float]:
    """Where the axis of a field with these values begins and ends."""
    there = finite(values)
    least, most = (field.config.get(end) for end in ("min", "max"))
    one = size_of_one(field.config.get("unit", ""), max(map(abs, there), default=0.0))
    low, high = bounds(
        (value / one for value in there),
        None if least is None else least / one,
        None if most is None else most / one,
    )
    return low * one, high * one


def marks(field: Field, low: float, high: float, height: float) -> list[Mark]:
    """Round values for an axis that is so many pixels high."""
    # Just below its end, which may be written in the next unit.
    one = size_of_one(field.config.get("unit", ""), max(abs(low), abs(high)) * 0.999)
    values = [value * one for value in ticks(low / one, high / one, max(2, int(height / 34)))]
    return [(value, short(field.write(value))) for value in values]


def short(text: str) -> str:
    """A number without the zeros behind its point that say nothing."""
    return re.sub(r"\.(\d*?)0+(?=\D|$)", lambda match: f".{match[1]}" if match[1] else "", text, count=1)


def marks_width(texts: Sequence[str]) -> float:
    """The room that they need left of the chart."""
    return max((svg.text_width(text, TEXT_SIZE) for text in texts), default=0) + 10


def value_axis(plot: Box, scale: Scale, values: Sequence[Mark], theme: Theme) -> str:
    """Lines across the chart, and their values left of it."""
    parts = []
    for value, text in values:
        y = round(scale.at(value)) + 0.5
        parts.append(svg.line(plot.x, y, plot.right, y, theme.grid))
        parts.append(svg.text(plot.x - 7, y + 3.5, text, theme.muted, TEXT_SIZE, "end"))
    return "".join(parts)


def time_axis(plot: Box, period: Period, theme: Theme) -> str:
    """Lines up the chart, and the time in UTC below it."""
    scale = time_scale(plot, period)
    parts = []
    for moment, text in time_ticks(period.start, period.end, max(2, int(plot.width / 75))):
        x = round(scale.at(moment)) + 0.5
        half = svg.text_width(text, TEXT_SIZE) / 2
        parts.append(svg.line(x, plot.y, x, plot.bottom, theme.grid))
        if plot.x - 20 <= x - half and x + half <= plot.right + 8:
            parts.append(svg.text(x, plot.bottom + 15, text, theme.muted, TEXT_SIZE, "middle"))
    return "".join(parts)


def time_scale(plot: Box, period: Period) -> Scale:
    """Where a moment is in the chart."""
    return Scale(period.start, period.end, plot.x, plot.right)


def legend(entries: Sequence[Entry], box: Box, theme: Theme) -> tuple[str, float]:
    """Colours, names and values at the bottom of a box, and the height that they take; what has no room is counted."""
    lines = _wrapped(entries, box.width)
    most = max(1, int(box.height * 0.34 / LINE_HEIGHT))
    shown = lines[:most]
    left_out = sum(map(len, lines[most:]))
    if left_out:
        while shown[-1] and sum(each.width for each in shown[-1]) + 60 > box.width:
            shown[-1] = shown[-1][:-1]
            left_out += 1
    parts = []
    for row, line in enumerate(shown):
        x, y = box.x, box.bottom - LINE_HEIGHT * (len(shown) - row) + 13
        for entry in line:
            parts.append(svg.rect(Box(x, y - 5.5, 14, 3.5), entry.colour, radius=1.5))
            name = entry.name
            if entry.width > box.width:
                name = svg.cut(name, max(20, svg.text_width(name, svg.SIZE) - (entry.width - box.width)), svg.SIZE)
            parts.append(svg.text(x + 20, y, name, theme.text, after=(entry.value, theme.muted)))
            x += entry.width
        if left_out and row == len(shown) - 1:
            parts.append(svg.text(x, y, f"+{left_out} more", theme.muted))
    return "".join(parts), LINE_HEIGHT * len(shown)


def _wrapped(entries: Sequence[Entry], width: float) -> list[list[Entry]]:
    """As many in a line as fit."""
    lines: list[list[Entry]] = []
    room = 0.0
    for entry in entries:
        if not lines or entry.width - 14 > room:
            lines.append([])
            room = width
        lines[-1].append(entry)
        room -= entry.width
    return lines
