"""Charts as SVG elements: lines over time, heatmaps and bars. Coordinates are pixels from the top left."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape

from monitoring.preview.dashboard import Panel
from monitoring.preview.queries import Answer, Event, Period
from monitoring.preview.values import Field, finite, named, round_base, write

TIME_STEPS = (1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
RAMP = ("#08306b", "#084d96", "#1a6aaf", "#3787c0", "#5aa2cf", "#84bcdb", "#abcfe6", "#cee0f2", "#f7fbff")
"""ColorBrewer's Blues, from few to many."""

GAP_STEPS = 1.5


@dataclass(frozen=True)
class Plot:
    """The area inside the axes, and its scales: `low` to `high` upwards, `start` to `end` from left to right."""

    left: float
    top: float
    right: float
    bottom: float
    low: float
    high: float
    start: float = 0.0
    end: float = 1.0

    def x(self, time: float) -> float:
        """Return the pixel of a moment."""
        return self.left + (self.right - self.left) * (time - self.start) / (self.end - self.start)

    def y(self, value: float) -> float:
        """Return the pixel of a value; beyond the axis, that of its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * share


def ticks(values: Sequence[float], count: int, unit: str, low: float | None = None) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten) for an axis that holds all values; `low` is a given end."""
    there = finite(values)
    base = round_base(unit, max(map(abs, there), default=0.0))
    end = 0.0 if low is None else low
    least = (min([*there, end]) if low is None else low) / base
    most = max([*there, end]) / base
    if most <= least:
        most = least + 1
    raw = (most - least) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    # Multiples of the step have no error that adds up; adding 0 turns -0 into 0.
    return [index * step * base + 0.0 for index in range(first, last + 1)]


def timeseries(
    panel: Panel, answers: Sequence[Answer], width: float, height: float, period: Period, events: Sequence[Event]
) -> str:
    """Draw lines over time, with areas, stacks, thresholds and events."""
    field = Field.of(panel, answers[0].name)
    stacking = panel.defaults.get("custom", {}).get("stacking", {}).get("mode", "none")
    curves = [dict(zip(each.series.times, each.series.values, strict=True)) for each in answers]
    floors: list[Mapping[float, float]] = [{} for _ in curves]
    if stacking != "none":
        curves, floors = _stacked(curves, stacking == "percent")
    if stacking == "percent":
        field = Field({**field.config, "unit": "percentunit"})
    values = [value for curve in curves for value in curve.values()]
    marks = ticks(values, int(height / 38), field.unit, field.config.get("min"))
    plot = _plot(marks, [field.write(mark) for mark in marks], width, height, period)
    parts = [_value_axis(plot, marks, field), _time_axis(plot)]
    opacity = panel.defaults.get("custom", {}).get("fillOpacity", 0) / 100
    for index, answer in reversed(list(enumerate(answers))):
        colour = Field.of(panel, answer.name).line_colour(answer.name)
        parts.append(_curve(curves[index], floors[index], plot, answer.step, colour, opacity))
    if panel.defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off") != "off":
        limits = [step for step in field.thresholds if step["value"] is not None and step["value"] <= plot.high]
        for step in limits:
            y = plot.y(step["value"])
            parts.append(_line(plot.left, y, plot.right, y, named(step["color"]), "8 6"))
    for event in events:
        x, colour = plot.x(event.time), named(event.colour)
        line = _line(x, plot.top, x, plot.bottom, colour, "3 3")
        tip = f'<path d="M{x - 4:.1f} {plot.bottom + 6:.1f}l4 -6l4 6z" fill="{colour}"/>'
        parts.append(f"<g><title>{escape(event.text)}</title>{line}{tip}</g>")
    return _svg(width, height, parts)


def heatmap(panel: Panel, answers: Sequence[Answer], width: float, height: float, period: Period) -> str:
    """Draw the buckets of a histogram over time, as cells that are brighter the more they hold."""
    buckets = sorted((each for each in answers if "le" in each.series.labels), key=_bound)
    unit = panel.options.get("yAxis", {}).get("unit", "none")
    texts = [write(_bound(each), unit) for each in buckets]
    plot = _plot([0.0, float(len(buckets))], texts, width, height, period)
    every = math.ceil(14 * len(texts) / (plot.bottom - plot.top))
    parts = [_time_axis(plot)]
    parts += [
        _text(plot.left - 7, plot.y(index + 1) + 4, text, "end")
        for index, text in enumerate(texts)
        if index % every == every - 1
    ]
    cells = _cells(buckets)
    most = max(cells.values(), default=0.0)
    wide = max(1.0, plot.x(buckets[0].step) - plot.x(0)) if buckets else 1.0
    shapes: defaultdict[str, list[str]] = defaultdict(list)
    for (index, time), count in cells.items():
        left, right = max(plot.left, plot.x(time) - wide), min(plot.right, plot.x(time))
        if count > 0 and right > left:
            # A root: on a linear scale the fullest cell would leave the others dark.
            colour = RAMP[min(len(RAMP) - 1, int(math.sqrt(count / most) * len(RAMP)))]
            top, tall, across = (
                plot.y(index + 1) + 0.5,
                plot.y(index) - plot.y(index + 1) - 1,
                max(0.6, right - left - 0.6),
            )
            shapes[colour].append(f"M{left:.1f} {top:.1f}h{across:.1f}v{tall:.1f}h-{across:.1f}z")
    parts += [f'<path d="{"".join(paths)}" fill="{colour}"/>' for colour, paths in shapes.items()]
    return _svg(width, height, parts)


def bars(
    fields: Mapping[str, Field],
    labels: Sequence[str],
    rows: Sequence[Sequence[float]],
    size: tuple[float, float],
) -> str:
    """Draw a group of bars for each row, one bar for each of the fields, by their names."""
    width, height = size
    field = next(iter(fields.values()))
    marks = ticks([value for row in rows for value in row], int(height / 38), field.unit, field.config.get("min"))
    plot = _plot(marks, [field.write(mark) for mark in marks], width, height, None)
    parts = [_value_axis(plot, marks, field)]
    room = (plot.right - plot.left) / max(1, len(rows))
    wide = min(room * 0.8, 70.0 * len(fields)) / len(fields)
    for number, (label, row) in enumerate(zip(labels, rows, strict=True)):
        middle = plot.left + room * (number + 0.5)
        parts.append(_text(middle, plot.bottom + 15, label[: max(1, int(room / 6.5))], "middle"))
        for index, (value, (name, each)) in enumerate(zip(row, fields.items(), strict=True)):
            if math.isfinite(value):
                left, top = middle + wide * (index - len(fields) / 2), plot.y(value)
                parts.append(
                    f'<rect x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(1, wide - 1):.1f}" '
                    f'height="{plot.bottom - top:.1f}" fill="{each.line_colour(name)}" fill-opacity="0.8"/>'
                )
    return _svg(width, height, parts)


def _stacked(
    curves: Sequence[Mapping[float, float]], percent: bool
) -> tuple[list[dict[float, float]], list[Mapping[float, float]]]:
    """Return the upper and the lower bound of each curve, on top of those before it."""
    times = sorted({time for curve in curves for time in curve})
    columns = [
        {time: value if math.isfinite(value := curve.get(time, 0.0)) else 0.0 for time in times} for curve in curves
    ]
    totals = {time: (sum(column[time] for column in columns) or 1.0) if percent else 1.0 for time in times}
    floor: Mapping[float, float] = dict.fromkeys(times, 0.0)
    uppers: list[dict[float, float]] = []
    floors: list[Mapping[float, float]] = []
    for column in columns:
        floors.append(floor)
        uppers.append({time: floor[time] + column[time] / totals[time] for time in times})
        floor = uppers[-1]
    return uppers, floors


def _curve(
    curve: Mapping[float, float], floor: Mapping[float, float], plot: Plot, step: float, colour: str, opacity: float
) -> str:
    parts = []
    for run in _runs(curve, step):
        upper = [(plot.x(time), plot.y(curve[time])) for time in run]
        if len(run) == 1:
            parts.append(f'<circle cx="{upper[0][0]:.1f}" cy="{upper[0][1]:.1f}" r="1.5" fill="{colour}"/>')
            continue
        lower = [(plot.x(time), plot.y(floor.get(time, 0.0))) for time in reversed(run)]
        if opacity:
            parts.append(f'<path d="M{_points(upper)}L{_points(lower)}z" fill="{colour}" fill-opacity="{opacity:g}"/>')
        parts.append(f'<path d="M{_points(upper)}" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>')
    return "".join(parts)


def _points(points: Sequence[tuple[float, float]]) -> str:
    """Return path data without the points that lie between two others of the same height."""
    texts = [(f"{x:.0f}", f"{y:.1f}".removesuffix(".0")) for x, y in points]
    ys = [y for _, y in texts]
    kept = [
        f"{x} {y}"
        for index, (x, y) in enumerate(texts)
        if not 0 < index < len(ys) - 1 or {*ys[index - 1 : index + 2]} != {y}
    ]
    return "L".join(kept)


def _runs(curve: Mapping[float, float], step: float) -> Iterator[list[float]]:
    """Yield the times of values that follow each other without a gap."""
    run: list[float] = []
    for time, value in curve.items():
        if run and (not math.isfinite(value) or time - run[-1] > GAP_STEPS * step):
            yield run
            run = []
        if math.isfinite(value):
            run.append(time)
    if run:
        yield run


def _bound(answer: Answer) -> float:
    return float(answer.series.labels["le"])


def _cells(buckets: Sequence[Answer]) -> dict[tuple[int, float], float]:
    """Return the count of each bucket from below and time: buckets are cumulative."""
    cells: dict[tuple[int, float], float] = {}
    below: Mapping[float, float] = {}
    for index, bucket in enumerate(buckets):
        now = dict(zip(bucket.series.times, bucket.series.values, strict=True))
        for time, count in now.items():
            cells[index, time] = max(0.0, count - below.get(time, 0.0)) if math.isfinite(count) else 0.0
        below = now
    return cells


def _plot(marks: Sequence[float], texts: Sequence[str], width: float, height: float, period: Period | None) -> Plot:
    left = min(width / 3, max(map(len, texts), default=0) * 6.4 + 12)
    times = (period.start, period.end) if period else (0.0, 1.0)
    return Plot(left, 6, width - 6, height - 20, marks[0], max(marks[-1], marks[0] + 1e-9), *times)


def _value_axis(plot: Plot, marks: Sequence[float], field: Field) -> str:
    return "".join(
        _line(plot.left, plot.y(mark), plot.right, plot.y(mark))
        + _text(plot.left - 7, plot.y(mark) + 4, field.write(mark), "end")
        for mark in marks
    )


def _time_axis(plot: Plot) -> str:
    """Draw lines up the chart, and the time in UTC below it."""
    wanted = (plot.end - plot.start) * 75 / (plot.right - plot.left)
    step = next((step for step in TIME_STEPS if step >= wanted), TIME_STEPS[-1])
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86_400 else "%m-%d"
    parts = []
    for time in range(math.ceil(plot.start / step) * step, math.floor(plot.end) + 1, step):
        x = plot.x(time)
        parts.append(_line(x, plot.top, x, plot.bottom))
        if plot.left + 12 < x < plot.right - 12:
            shown = datetime.fromtimestamp(time, timezone.utc).strftime(form)
            parts.append(_text(x, plot.bottom + 16, shown, "middle"))
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#2a2d33", dashes: str = "") -> str:
    more = f' stroke-dasharray="{dashes}" stroke-width="1.5"' if dashes else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"{more}/>'


def _text(x: float, y: float, content: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content, quote=False)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg>'
