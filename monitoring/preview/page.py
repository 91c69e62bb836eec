"""A dashboard as one SVG file: HTML on Grafana's grid inside a `foreignObject`, which lets the browser lay out text."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from html import escape
from itertools import pairwise

from monitoring.preview import charts
from monitoring.preview.dashboard import Dashboard, Panel
from monitoring.preview.prometheus import PreviewError, Prometheus
from monitoring.preview.queries import Answer, Choice, Event, Period, ask, choose, events_of, substitute
from monitoring.preview.tables import Cell, table_of
from monitoring.preview.values import PANEL_COLOUR, TEXT_COLOUR, Field

WIDTH, MARGIN, GAP, CELL_HEIGHT = 1440, 16, 8, 30
COLUMN = (WIDTH - 2 * MARGIN + GAP) / 24
HEADER_HEIGHT, TITLE_HEIGHT, LEGEND_HEIGHT, TABLE_ROW_HEIGHT = 60, 36, 18, 27
PIXELS_PER_POINT = 3

STYLE = f"""
.board {{ position: relative; font: 12px Inter, Roboto, 'Helvetica Neue', Arial, sans-serif; color: {TEXT_COLOUR}; }}
.board * {{ box-sizing: border-box; white-space: nowrap; }}
.board svg {{ display: block; fill: none; }} .board text {{ font-size: 11px; fill: #9a9bab; }}
.header {{ display: flex; align-items: center; height: 56px; padding: 0 16px; gap: 10px; }}
.header b {{ font-size: 20px; font-weight: 500; margin-right: 14px; }} .header i {{ margin-left: auto; }}
.header span {{ background: {PANEL_COLOUR}; border: 1px solid #2c2f36; border-radius: 3px; padding: 5px 10px; }}
i {{ font-style: normal; color: #9a9bab; }}
.panel, .row {{ position: absolute; overflow: hidden; }}
.panel {{ background: {PANEL_COLOUR}; border: 1px solid #2c2f36; border-radius: 3px; padding: 0 9px; }}
h2 {{ font-size: 14px; font-weight: 500; margin: 0; line-height: {TITLE_HEIGHT}px; overflow: hidden;
 text-overflow: ellipsis; }}
.row h2 {{ font-size: 15px; line-height: 34px; padding-left: 4px; }}
.legend {{ overflow: hidden; line-height: {LEGEND_HEIGHT}px; }}
.legend div {{ display: flex; flex-wrap: wrap; }} .legend span {{ margin-right: 16px; }}
.legend u {{ display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin: 0 6px 3px 0; }}
.stats {{ display: flex; gap: 6px; }} .stats.tall {{ flex-direction: column; }}
.stats div {{ flex: 1; min-width: 0; border-radius: 3px; display: flex; flex-direction: column; align-items: center;
 justify-content: center; overflow: hidden; font-weight: 500; }}
.stats small {{ font-size: 13px; font-weight: 400; }}
.none {{ display: flex; align-items: center; justify-content: center; font-size: 14px; color: #9a9bab; }}
table {{ border-collapse: collapse; width: 100%; }} tr {{ height: {TABLE_ROW_HEIGHT}px; }}
th, td {{ text-align: left; padding: 0 8px; border-bottom: 1px solid #2a2d33; max-width: 190px; overflow: hidden;
 text-overflow: ellipsis; }}
th {{ font-weight: 500; }} .number {{ text-align: right; }}
"""


@dataclass(frozen=True)
class View:
    """The data source, time, events and values of variables that all panels of a dashboard share."""

    prometheus: Prometheus
    period: Period
    events: Sequence[Event]
    for_queries: dict[str, str]
    for_people: dict[str, str]


def draw(dashboard: Dashboard, prometheus: Prometheus, period: Period, height_max: float = math.inf) -> str:
    """Return the content of an SVG file. Panels that would end below `height_max` pixels are left out.

    Raises:
        PreviewError: if Prometheus does not answer or refuses a query, or a panel has an option that is not known here.
    """
    choices = choose(dashboard, prometheus, period)
    known = {name: choice.query for name, choice in choices.items()}
    events = [event for each in dashboard.annotations for event in events_of(each, prometheus, period, known)]
    view = View(prometheus, period, events, known, {name: choice.shown for name, choice in choices.items()})
    placed = _cut([*_repeated(dashboard.panels, view, choices)], height_max)
    height = max(_bottom(panel) for panel, _ in placed) + MARGIN
    chosen = "".join(f"<span><i>{escape(name)}</i> {escape(shown)}</span>" for name, shown in view.for_people.items())
    end = datetime.fromtimestamp(period.end, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    shown = f"{(period.end - period.start) / 60:g} minutes to {end}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
        f"<title>{escape(dashboard.title)}</title><style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#111217"/><foreignObject width="{WIDTH}" height="{height}">'
        f'<div xmlns="http://www.w3.org/1999/xhtml" class="board">'
        f'<div class="header"><b>{escape(dashboard.title)}</b>{chosen}<i>{shown}</i></div>\n'
        + "\n".join(_panel(panel, of_panel) for panel, of_panel in placed)
        + "</div></foreignObject></svg>\n"
    )


def _repeated(panels: Sequence[Panel], view: View, choices: Mapping[str, Choice]) -> Iterator[tuple[Panel, View]]:
    """Yield the panels; those of a repeated row once for each chosen value, which alone they see."""
    moved = 0
    rows = [index for index, panel in enumerate(panels) if panel.kind == "row"]
    for start, end in pairwise([0, *(index for index in rows if index), len(panels)]):
        members = panels[start:end]
        variable = members[0].repeat
        if variable is None:
            yield from ((replace(each, y=each.y + moved), view) for each in members)
            continue
        tall = max(each.y + each.height for each in members) - members[0].y
        values = choices[variable].values
        for number, value in enumerate(values):
            alone = replace(
                view,
                for_queries={**view.for_queries, variable: re.escape(value)},
                for_people={**view.for_people, variable: value},
            )
            yield from ((replace(each, y=each.y + moved + number * tall), alone) for each in members)
        moved += (len(values) - 1) * tall


def _bottom(panel: Panel) -> float:
    return HEADER_HEIGHT + (panel.y + panel.height) * (CELL_HEIGHT + GAP) - GAP


def _cut(placed: Sequence[tuple[Panel, View]], height_max: float) -> list[tuple[Panel, View]]:
    """Return the panels that end above a height, without headlines that would have no panel below them."""
    kept = [each for each in placed if _bottom(each[0]) + MARGIN <= height_max]
    while kept and kept[-1][0].kind == "row" and len(kept) < len(placed):
        kept.pop()
    return kept


def _panel(panel: Panel, view: View) -> str:
    title = substitute(panel.title, view.for_people)
    width, height = panel.width * COLUMN - GAP, panel.height * (CELL_HEIGHT + GAP) - GAP
    left, top = MARGIN + panel.x * COLUMN, HEADER_HEIGHT + panel.y * (CELL_HEIGHT + GAP)
    place = f"left:{left:.0f}px;top:{top}px;width:{width:.0f}px;height:{height}px"
    headline = f"<h2>{escape(title)}</h2>"
    if panel.kind == "row":
        return f'<div class="row" style="{place}">{headline}</div>'
    try:
        answers = ask(panel, view.prometheus, view.period, view.for_queries, int(width / PIXELS_PER_POINT))
        content = _content(panel, answers, width - 20, height - TITLE_HEIGHT - 10, view)
    except PreviewError as error:
        raise type(error)(f"{title}: {error}") from None
    return f'<div class="panel" style="{place}">{headline}{content}</div>'


def _content(panel: Panel, answers: Sequence[Answer], width: float, height: float, view: View) -> str:
    if panel.kind not in ("stat", "table"):
        answers = [answer for answer in answers if answer.series.last() is not None]
    if not answers:
        return _box("none", height, escape(str(panel.defaults.get("noValue") or "No data")))
    if panel.kind == "timeseries":
        values = [Field.of(panel, answer.name).write(answer.series.last()) for answer in answers]
        names = [(answer.name, Field.of(panel, answer.name).line_colour(answer.name)) for answer in answers]
        legend, used = _legend(names, values, width, height)
        return charts.timeseries(panel, answers, width, height - used, view.period, view.events) + legend
    if panel.kind == "heatmap":
        return charts.heatmap(panel, answers, width, height, view.period)
    if panel.kind == "barchart":
        return _bars(panel, answers, width, height)
    if panel.kind == "stat":
        return _stats(panel, answers, width, height)
    if panel.kind == "table":
        return _table(panel, answers, height)
    raise PreviewError(f"panels of the kind {panel.kind} are not known here")


def _box(kind: str, height: float, content: str) -> str:
    return f'<div class="{kind}" style="height:{height:.0f}px">{content}</div>'


def _legend(names: Sequence[tuple[str, str]], values: Sequence[str], width: float, height: float) -> tuple[str, float]:
    """Return colours, names and values below a chart, and their height; entries beyond a third of it are cut off."""
    entries = [
        f'<span><u style="background:{colour}"></u>{escape(name)} <i>{escape(value)}</i></span>'
        for (name, colour), value in zip(names, values, strict=True)
    ]
    wide = sum(len(name + value) * 6.3 + 44 for (name, _), value in zip(names, values, strict=True))
    lines = min(int(wide / width) + 1, max(1, int(height * 0.3 / LEGEND_HEIGHT)))
    used = lines * LEGEND_HEIGHT
    return _box("legend", used, f"<div>{''.join(entries)}</div>"), used + 4


def _bars(panel: Panel, answers: Sequence[Answer], width: float, height: float) -> str:
    table = table_of(panel, answers)
    fields = {name: Field.of(panel, name) for name in table.columns if table.is_numeric(name)}
    names = [(name, field.line_colour(name)) for name, field in fields.items()]
    legend, used = _legend(names, [""] * len(names), width, height)
    rows = [
        [cell if isinstance(cell := row.get(name), float) else float("nan") for name in fields] for row in table.rows
    ]
    labels = [str(cell) for cell in table.column(panel.options["xField"])]
    return charts.bars(fields, labels, rows, (width, height - used)) + legend


def _stats(panel: Panel, answers: Sequence[Answer], width: float, height: float) -> str:
    """Return big numbers, one for each series: side by side, or one below the other if that is wider than high."""
    tall = width < height
    each = height / (len(answers) if tall else 1), width / (1 if tall else len(answers))
    parts = []
    for answer in answers:
        field, value = Field.of(panel, answer.name), answer.series.last()
        shown, filled = field.write(value), panel.options["colorMode"].startswith("background")
        name = f"<small>{escape(answer.name)}</small>" if "name" in panel.options["textMode"] else ""
        size = max(13.0, min(40.0, each[0] * (0.4 if name else 0.62), (each[1] - 16) / (0.58 * max(1, len(shown)))))
        colours = f";background:{field.colour(value)};color:#fff" if filled else ""
        parts.append(f'<div style="font-size:{size:.0f}px{colours}">{name}{escape(shown)}</div>')
    return _box("stats tall" if tall else "stats", height, "".join(parts))


def _table(panel: Panel, answers: Sequence[Answer], height: float) -> str:
    """Return a table; rows that do not fit are counted."""
    table = table_of(panel, answers)
    fields = {name: Field.of(panel, name) for name in table.columns}
    fitting = int(height / TABLE_ROW_HEIGHT) - 1
    shown = table.rows if len(table.rows) <= fitting else table.rows[: fitting - 1]
    numbers = {name: ' class="number"' if table.is_numeric(name) else "" for name in table.columns}
    head = "".join(f"<th{numbers[name]}>{escape(name)}</th>" for name in table.columns)
    rows = ["".join(_cell(row.get(name), fields[name], numbers[name]) for name in table.columns) for row in shown]
    if len(shown) < len(table.rows):
        rows.append(f"<td><i>+{len(table.rows) - len(shown)} more</i></td>")
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _cell(cell: Cell, field: Field, attributes: str) -> str:
    if cell is None:
        return "<td></td>"
    if field.config.get("custom.cellOptions", {}).get("type") == "color-background":
        attributes += f' style="background:{field.colour(cell)};color:#fff"'
    return f"<td{attributes}>{escape(field.write(cell))}</td>"
