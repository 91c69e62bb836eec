"""A table."""

from collections.abc import Sequence
from dataclasses import replace

from monitoring.preview import svg
from monitoring.preview.answers import Answer
from monitoring.preview.colours import Theme, ink_on
from monitoring.preview.dashboard import Panel
from monitoring.preview.fields import Field, field_of
from monitoring.preview.frames import Cell, frame_of
from monitoring.preview.svg import Box

ROW_HEIGHT = 26.0
PADDING = 8


def draw(panel: Panel, answers: Sequence[Answer], box: Box, theme: Theme) -> str:
    """The whole panel below its title; rows that have no room are counted."""
    frame = frame_of(panel, answers)
    fields = [field_of(panel, theme, index, name) for index, name in enumerate(frame.columns)]
    texts = [
        [_written(cell, field) for cell in frame.column(name)]
        for name, field in zip(frame.columns, fields, strict=True)
    ]  # fmt: skip
    widths = _widths([[name, *column] for name, column in zip(frame.columns, texts, strict=True)], box.width)
    fitting = int(box.height / ROW_HEIGHT) - 1
    shown = len(frame.rows) if len(frame.rows) <= fitting else fitting - 1
    parts = [svg.line(box.x, box.y + ROW_HEIGHT, box.right, box.y + ROW_HEIGHT, theme.border)]
    x = box.x
    for name, field, column, width in zip(frame.columns, fields, texts, widths, strict=True):
        cells = frame.column(name)
        is_number = any(isinstance(cell, float) for cell in cells)
        cell_box = Box(x, box.y, width, ROW_HEIGHT)
        parts.append(_cell(cell_box, name, theme.text, is_number, 500))
        for index in range(shown):
            cell_box = replace(cell_box, y=box.y + ROW_HEIGHT * (index + 1))
            parts.append(_value(cell_box, cells[index], column[index], field, theme))
        x += width
    parts += [
        svg.line(box.x, box.y + ROW_HEIGHT * (i + 2), box.right, box.y + ROW_HEIGHT * (i + 2), theme.grid)
        for i in range(shown)
    ]
    if shown < len(frame.rows):
        y = box.y + ROW_HEIGHT * (shown + 1) + 17
        parts.append(svg.text(box.x + PADDING, y, f"+{len(frame.rows) - shown} more", theme.muted))
    return "".join(parts)


def _written(cell: Cell, field: Field) -> str:
    return "" if cell is None else field.write(cell)


def _widths(columns: Sequence[Sequence[str]], width: float) -> list[float]:
    """By what they hold, spread over the width; if that is too narrow, the widest give way."""
    wanted = [max(svg.text_width(text, svg.SIZE, 500) for text in column) + 2 * PADDING + 1 for column in columns]
    spare = (width - sum(wanted)) / max(1, len(wanted))
    if spare >= 0:
        return [each + spare for each in wanted]
    room = width
    for count, each in zip(range(len(wanted), 0, -1), sorted(wanted), strict=True):
        if each * count > room:
            return [min(other, room / count) for other in wanted]
        room -= each
    return wanted


def _value(box: Box, cell: Cell, shown: str, field: Field, theme: Theme) -> str:
    """A cell, coloured by its value if the column says so."""
    if cell is None:
        return ""
    kind = field.custom.get("cellOptions", {}).get("type", "auto")
    colour, is_number = field.colour_of(cell), isinstance(cell, float)
    if kind == "color-background":
        filled = svg.rect(box.inside(1, 1, 1, 1), colour, radius=2)
        return filled + _cell(box, shown, ink_on(colour), is_number)
    return _cell(box, shown, colour if kind == "color-text" else theme.text, is_number)


def _cell(box: Box, shown: str, colour: str, is_number: bool, weight: int = 400) -> str:
    x, anchor = (box.right - PADDING, "end") if is_number else (box.x + PADDING, "start")
    return svg.text(x, box.y + 17, shown, colour, svg.SIZE, anchor, weight, width=box.width - 2 * PADDING)
