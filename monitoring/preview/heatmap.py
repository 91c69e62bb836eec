"""The buckets of a histogram over time, as cells that are darker the more they hold."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from monitoring.preview import svg
from monitoring.preview.answers import Answer
from monitoring.preview.axes import LINE_HEIGHT, TEXT_SIZE, TIME_HEIGHT, marks_width, short, time_axis, time_scale
from monitoring.preview.colours import Theme, ramp
from monitoring.preview.dashboard import Panel
from monitoring.preview.period import Period
from monitoring.preview.scale import Scale
from monitoring.preview.svg import Box
from monitoring.preview.units import write

Cells = dict[tuple[int, float], float]
"""(bucket from below, time) -> how many."""


def draw(panel: Panel, answers: Sequence[Answer], box: Box, theme: Theme, period: Period) -> str:
    """The whole panel below its title."""
    buckets = sorted((answer for answer in answers if "le" in answer.series.labels), key=_bound)
    unit = panel.options.get("yAxis", {}).get("unit", "none")
    texts = [short(write(_bound(bucket), unit)) for bucket in buckets]
    inner = box.inside(bottom=TIME_HEIGHT + LINE_HEIGHT + 6)
    plot = inner.inside(left=marks_width(texts), top=8, right=4)
    colours = ramp(*_scheme(panel), theme=theme)
    cells = _cells(buckets)
    most = max(cells.values(), default=0.0)
    across, up = time_scale(plot, period), Scale(0, max(1, len(buckets)), plot.bottom, plot.y)
    parts = [time_axis(plot, period, theme), _bounds(texts, plot, up, theme)]
    wide = max(1.0, abs(across.at(buckets[0].step) - across.at(0)) if buckets else 1.0)
    data: defaultdict[str, list[str]] = defaultdict(list)
    for (bucket, time), count in sorted(cells.items()):
        if count > 0:
            # A root, or the fullest cell would leave the others dark.
            colour = colours[min(len(colours) - 1, int(math.sqrt(count / most) * len(colours)))]
            left, right = max(plot.x, across.at(time) - wide), min(plot.right, across.at(time))
            top, bottom = up.at(bucket + 1) + 0.5, up.at(bucket) - 0.5
            if right > left:
                w, h = svg.number(max(0.6, right - left - 0.6)), svg.number(bottom - top)
                data[colour].append(f"M{svg.number(left)} {svg.number(top)}h{w}v{h}h-{w}z")
    parts += [svg.path("".join(cells), fill=colour) for colour, cells in data.items()]
    parts.append(_key(colours, most, box.at_bottom(LINE_HEIGHT), plot.x, theme))
    return "".join(parts)


def _scheme(panel: Panel) -> tuple[str, int]:
    colour = panel.options.get("color", {})
    # More steps than these can't be told apart, and each is a path.
    return colour.get("scheme", "Oranges"), min(16, int(colour.get("steps", 16)))


def _bound(answer: Answer) -> float:
    return float(answer.series.labels["le"])


def _cells(buckets: Sequence[Answer]) -> Cells:
    """Buckets are cumulative: a cell is what one has more than the one below it."""
    cells: Cells = {}
    below: dict[float, float] = {}
    for index, bucket in enumerate(buckets):
        now = dict(zip(bucket.series.times, bucket.series.values, strict=True))
        for time, count in now.items():
            cells[index, time] = max(0.0, count - below.get(time, 0.0)) if math.isfinite(count) else 0.0
        below = now
    return cells


def _bounds(texts: Sequence[str], plot: Box, up: Scale, theme: Theme) -> str:
    """The upper bounds of buckets, as many as have room."""
    every = max(1, math.ceil(14 * len(texts) / max(1.0, plot.height)))
    return "".join(
        svg.text(plot.x - 7, up.at(index + 1) + 3.5, text, theme.muted, TEXT_SIZE, "end")
        for index, text in enumerate(texts)
        if index % every == every - 1
    )


def _key(colours: Sequence[str], most: float, box: Box, x: float, theme: Theme) -> str:
    bar = replace(box, x=x, y=box.y + 5, width=160 / len(colours), height=8)
    parts = [svg.rect(replace(bar, x=x + bar.width * i, width=bar.width + 0.5), c) for i, c in enumerate(colours)]
    parts.append(svg.text(x + 168, box.y + 13, f"0 to {write(most, 'short')}", theme.muted, TEXT_SIZE))
    return "".join(parts)
