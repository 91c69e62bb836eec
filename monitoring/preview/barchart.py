"""Bars side by side for each row of a table."""

import math
from collections.abc import Sequence
from dataclasses import replace

from monitoring.preview import svg
from monitoring.preview.answers import Answer
from monitoring.preview.axes import TEXT_SIZE, TIME_HEIGHT, Entry, ends, legend, marks, marks_width, value_axis
from monitoring.preview.colours import Theme
from monitoring.preview.dashboard import Panel
from monitoring.preview.fields import Field, field_of
from monitoring.preview.frames import Frame, frame_of
from monitoring.preview.scale import Scale
from monitoring.preview.svg import Box


def draw(panel: Panel, answers: Sequence[Answer], box: Box, theme: Theme) -> str:
    """The whole panel below its title."""
    frame = frame_of(panel, answers)
    names = [name for name in frame.columns if _is_numeric(frame, name)]
    fields = [field_of(panel, theme, index, name) for index, name in enumerate(names)]
    columns = [[_number(cell) for cell in frame.column(name)] for name in names]
    keys, height = legend([Entry(f.colour(), name) for f, name in zip(fields, names, strict=True)], box, theme)
    inner = box.inside(bottom=height + TIME_HEIGHT + 6)
    low, high = ends(fields[0], (value for column in columns for value in column))
    values = marks(fields[0], low, high, inner.height)
    plot = inner.inside(left=marks_width([text for _, text in values]), top=12, right=4)
    scale = Scale(low, high, plot.bottom, plot.y)
    parts = [value_axis(plot, scale, values, theme), keys]
    width = plot.width / max(1, len(frame.rows))
    for index, row in enumerate(frame.rows):
        group = replace(plot, x=plot.x + width * index, width=width)
        parts.append(_group(group, [column[index] for column in columns], fields, scale, theme, panel))
        label = str(row.get(panel.options.get("xField", "")) or "")
        middle = group.x + width / 2
        parts.append(svg.text(middle, plot.bottom + 15, label, theme.muted, TEXT_SIZE, "middle", width=width - 4))
    return "".join(parts)


def _is_numeric(frame: Frame, name: str) -> bool:
    cells = [cell for cell in frame.column(name) if cell is not None]
    return bool(cells) and all(isinstance(cell, float) for cell in cells)


def _number(cell: object) -> float:
    return cell if isinstance(cell, float) else float("nan")


def _group(box: Box, values: Sequence[float], fields: Sequence[Field], scale: Scale, theme: Theme, panel: Panel) -> str:
    """The bars of one row."""
    used = min(box.width * panel.options.get("groupWidth", 0.7), 70.0 * len(values))
    width = used / max(1, len(values))
    left = box.x + (box.width - used) / 2
    base = scale.at(max(0.0, scale.low))
    parts = []
    for index, (value, field) in enumerate(zip(values, fields, strict=True)):
        if not math.isfinite(value):
            continue
        top, opacity = scale.at(value), field.custom.get("fillOpacity", 80) / 100
        bar = Box(left + width * index + 0.5, min(top, base), max(1.0, width - 1), max(0.5, abs(base - top)))
        parts.append(svg.rect(bar, field.colour(), opacity=opacity))
        shown = field.write(value)
        if svg.text_width(shown, 10) <= width:
            parts.append(svg.text(bar.x + bar.width / 2, bar.y - 3, shown, theme.muted, 10, "middle"))
    return "".join(parts)
