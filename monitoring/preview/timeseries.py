"""Lines over time: gaps where nothing is, areas, stacks, limits, and moments that are marked."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.preview import svg
from monitoring.preview.answers import Answer
from monitoring.preview.axes import (
    TIME_HEIGHT,
    Entry,
    ends,
    legend,
    marks,
    marks_width,
    time_axis,
    time_scale,
    value_axis,
)
from monitoring.preview.calcs import calculated
from monitoring.preview.colours import Theme, named
from monitoring.preview.dashboard import Panel
from monitoring.preview.period import Period
from monitoring.preview.scale import Scale
from monitoring.preview.svg import Box

Point = tuple[float, float]

GAP_STEPS = 1.5


@dataclass(frozen=True)
class Event:
    """A moment to mark."""

    time: float
    colour: str
    text: str


@dataclass(frozen=True)
class Curve:
    """What is drawn of an answer: its values, on top of those of `below` if they are stacked."""

    answer: Answer
    times: Sequence[float]
    values: Sequence[float]
    below: Sequence[float] | None = None


def draw(
    panel: Panel, answers: Sequence[Answer], box: Box, theme: Theme, period: Period, events: Sequence[Event]
) -> str:
    """The whole panel below its title."""
    curves = _curves(panel, answers)
    first = answers[0].field
    low, high = ends(first, (value for curve in curves for value in curve.values))
    keys, height = legend(_entries(panel, answers), box, theme) if _has_legend(panel) else ("", 0.0)
    inner = box.inside(bottom=height + TIME_HEIGHT + (6 if height else 0))
    values = marks(first, low, high, inner.height)
    plot = inner.inside(left=marks_width([text for _, text in values]), top=4, right=4)
    scale = Scale(low, high, plot.bottom, plot.y)
    across = time_scale(plot, period)
    parts = [value_axis(plot, scale, values, theme), time_axis(plot, period, theme)]
    parts += [_curve(curve, across, scale) for curve in (reversed(curves) if _stacking(panel) else curves)]
    parts += [*_limits(panel, first.thresholds(), plot, scale, theme), *_events(events, plot, across), keys]
    return "".join(parts)


def _has_legend(panel: Panel) -> bool:
    return bool(panel.options.get("legend", {}).get("showLegend", True))


def _entries(panel: Panel, answers: Sequence[Answer]) -> list[Entry]:
    calcs = panel.options.get("legend", {}).get("calcs", ())
    return [
        Entry(
            answer.field.colour(),
            answer.name,
            "  ".join(answer.field.write(calculated(calc, answer.series.values)) for calc in calcs),
        )
        for answer in answers
    ]


def _stacking(panel: Panel) -> str:
    mode = panel.defaults.get("custom", {}).get("stacking", {}).get("mode", "none")
    return "" if mode == "none" else str(mode)


def _curves(panel: Panel, answers: Sequence[Answer]) -> list[Curve]:
    mode = _stacking(panel)
    if not mode:
        return [Curve(answer, answer.series.times, answer.series.values) for answer in answers]
    times = sorted({time for answer in answers for time in answer.series.times})
    columns = [_filled(answer, times) for answer in answers]
    if mode == "percent":
        totals = [sum(values) or 1.0 for values in zip(*columns, strict=True)]
        columns = [[value / total for value, total in zip(column, totals, strict=True)] for column in columns]
    curves: list[Curve] = []
    below = [0.0] * len(times)
    for answer, column in zip(answers, columns, strict=True):
        values = [base + value for base, value in zip(below, column, strict=True)]
        curves.append(Curve(answer, times, values, below))
        below = values
    return curves


def _filled(answer: Answer, times: Sequence[float]) -> list[float]:
    """Its values at these times, 0 where there is none."""
    there = dict(zip(answer.series.times, answer.series.values, strict=True))
    values = [there.get(time, 0.0) for time in times]
    return [value if math.isfinite(value) else 0.0 for value in values]


def _curve(curve: Curve, across: Scale, scale: Scale) -> str:
    custom, colour = curve.answer.field.custom, curve.answer.field.colour()
    opacity, width = custom.get("fillOpacity", 0) / 100, max(1.0, custom.get("lineWidth", 1) * 1.4)
    base = scale.at(min(max(0.0, scale.low), scale.high))
    floor = [base] * len(curve.times) if curve.below is None else [scale.at(value) for value in curve.below]
    parts = []
    for run in _runs(curve):
        upper = [(across.at(curve.times[i]), scale.at(curve.values[i])) for i in run]
        if len(run) == 1:
            parts.append(svg.rect(Box(upper[0][0] - 1.5, upper[0][1] - 1.5, 3, 3), colour, radius=1.5))
            continue
        line = svg.points(svg.thinned(upper))
        if opacity:
            lower = svg.thinned([(across.at(curve.times[i]), floor[i]) for i in reversed(run)])
            parts.append(svg.path(line + svg.points(lower, "L") + "z", fill=colour, opacity=opacity))
        parts.append(svg.path(line, stroke=colour, width=width))
    return "".join(parts)


def _runs(curve: Curve) -> Iterator[list[int]]:
    """Places of values that follow each other without a gap."""
    run: list[int] = []
    for i, (time, value) in enumerate(zip(curve.times, curve.values, strict=True)):
        is_gap = not math.isfinite(value) or (run and time - curve.times[run[-1]] > GAP_STEPS * curve.answer.step)
        if is_gap and run:
            yield run
            run = []
        if math.isfinite(value):
            run.append(i)
    if run:
        yield run


def _limits(panel: Panel, steps: Sequence[Any], plot: Box, scale: Scale, theme: Theme) -> Iterator[str]:
    style = panel.defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off")
    for step in steps:
        value = step["value"]
        if style == "off" or value is None or not scale.low <= value <= scale.high:
            continue
        y = scale.at(value)
        yield svg.line(plot.x, y, plot.right, y, named(step["color"], theme), 1.5, "8 6" if "dashed" in style else "")


def _events(events: Sequence[Event], plot: Box, across: Scale) -> Iterator[str]:
    for event in events:
        x, y = across.at(event.time), plot.bottom
        line = svg.line(x, plot.y, x, y, event.colour, 1, "3 3")
        tip = svg.path(svg.points([(x - 4, y + 6), (x, y), (x + 4, y + 6)]) + "z", fill=event.colour)
        yield f"<g><title>{svg.escaped(event.text)}</title>{line}{tip}</g>"
