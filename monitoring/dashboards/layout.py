"""Rows, and the places of panels on Grafana's grid."""

from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard as model

GRID_WIDTH = 24


@dataclass(frozen=True)
class Row:
    """A headline, and panels with their widths, which fill the grid's width from left to right, line by line.

    A collapsed row sends no queries until it is opened. With `repeat`, the row appears once for each chosen value of
    that variable, and its queries see that value alone.
    """

    title: str
    height: int
    panels: list[tuple[int, model.Panel]]
    collapsed: bool = False
    repeat: str | None = None


def lay_out(rows: list[Row]) -> list[model.Panel | model.RowPanel]:
    """Give every panel its number and its place, from top to bottom."""
    placed: list[model.Panel | model.RowPanel] = []
    numbers = iter(range(1, 1000))
    y = 0
    for row in rows:
        headline = model.RowPanel(
            title=row.title,
            collapsed=row.collapsed,
            repeat=row.repeat,
            grid_pos=model.GridPos(h=1, w=GRID_WIDTH, x=0, y=y),
            id_val=next(numbers),
        )
        placed.append(headline)
        y += 1
        bottom = _place(row, y)
        for _, panel in row.panels:
            panel.id_val = next(numbers)
        if row.collapsed:
            headline.panels = [panel for _, panel in row.panels]
        else:
            placed += [panel for _, panel in row.panels]
            y = bottom
    return placed


def _place(row: Row, top: int) -> int:
    """Place the panels of a row from `top` on, and return where the next row begins."""
    x, y = 0, top
    for width, panel in row.panels:
        if x + width > GRID_WIDTH:
            x, y = 0, y + row.height
        panel.grid_pos = model.GridPos(h=row.height, w=width, x=x, y=y)
        x += width
    return y + row.height
