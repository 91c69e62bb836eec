"""A dashboard as one picture: the grid of Grafana, a header, and every panel in its place."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitoring.preview import barchart, heatmap, stat, svg, table, timeseries
from monitoring.preview.answers import Answer, ask, filled
from monitoring.preview.colours import Theme, named
from monitoring.preview.dashboard import Annotation, Dashboard, Panel, Place
from monitoring.preview.frames import Unsupported
from monitoring.preview.period import Choice, Period, choose, substitute
from monitoring.preview.prometheus import PreviewError, Prometheus
from monitoring.preview.svg import Box
from monitoring.preview.timeseries import Event
from monitoring.preview.units import moment, span

WIDTH = 1440
COLUMNS = 24
CELL_HEIGHT, GAP, MARGIN = 30, 8, 16
HEADER_HEIGHT, TITLE_HEIGHT = 60, 34

PIXELS_PER_POINT = 3
"""More points than that only make the file bigger."""

STEP_SECONDS = 15
"""Of annotations, as the dashboards ask for."""


@dataclass(frozen=True)
class View:
    """What all panels of a picture have in common."""

    prometheus: Prometheus
    period: Period
    theme: Theme
    choices: Mapping[str, Choice]
    events: Sequence[Event]

    def for_queries(self) -> dict[str, str]:
        """Values of the dashboard's variables."""
        return {name: choice.query for name, choice in self.choices.items()}

    def for_people(self) -> dict[str, str]:
        """The same as they are shown."""
        return {name: choice.shown for name, choice in self.choices.items()}


def draw(dashboard: Dashboard, prometheus: Prometheus, period: Period, theme: Theme) -> str:
    """The content of an SVG file.

    Raises:
        PreviewError: if Prometheus does not answer or refuses a query, or a panel has something that is not known here.
    """
    choices = choose(dashboard, prometheus, period)
    known = {name: choice.query for name, choice in choices.items()}
    events = [
        event for each in dashboard.annotations for event in events_of(each, prometheus, period, known, theme)
    ]  # fmt: skip
    view = View(prometheus, period, theme, choices, events)
    width, height = size(dashboard)
    parts = [_header(dashboard, view)]
    parts += [_panel(panel, view) for panel in dashboard.panels]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{svg.FONT}" font-size="{svg.SIZE}">\n<title>{svg.escaped(dashboard.title)}</title>\n'
        f"{svg.rect(Box(0, 0, width, height), theme.canvas)}\n" + "\n".join(parts) + "\n</svg>\n"
    )


def size(dashboard: Dashboard) -> tuple[int, int]:
    """Width and height of its picture."""
    return WIDTH, HEADER_HEIGHT + dashboard.height * (CELL_HEIGHT + GAP) + MARGIN - GAP


def place(where: Place) -> Box:
    """The pixels of a place on the grid."""
    column = (WIDTH - 2 * MARGIN - GAP * (COLUMNS - 1)) / COLUMNS
    return Box(
        MARGIN + where.x * (column + GAP),
        HEADER_HEIGHT + where.y * (CELL_HEIGHT + GAP),
        where.width * column + (where.width - 1) * GAP,
        where.height * CELL_HEIGHT + (where.height - 1) * GAP,
    )


def events_of(
    annotation: Annotation, prometheus: Prometheus, period: Period, known: Mapping[str, str], theme: Theme
) -> list[Event]:
    """The moments within the period that an annotation marks: its values, or when something begins to be there."""
    step = max(period.scrape_seconds, min(STEP_SECONDS, period.step(200)))
    expr = substitute(annotation.expr, {**period.variables(step), **known})
    colour = named(annotation.colour, theme)
    events = []
    for series in prometheus.range(expr, period.start, period.end, step):
        if annotation.at_value:
            times = {value / 1000 for value in series.values if math.isfinite(value)}
        else:
            before = [-math.inf, *series.times]
            times = {now for was, now in zip(before, series.times, strict=False) if now - was > 1.5 * step}
        text = filled(annotation.title, series.labels) or annotation.name
        events += [Event(time, colour, text) for time in sorted(times) if period.start <= time <= period.end]
    return events


def _header(dashboard: Dashboard, view: View) -> str:
    theme, period = view.theme, view.period
    x, y = float(MARGIN), 37
    parts = [svg.text(x, y, dashboard.title, theme.text, 20, weight=500)]
    x += svg.text_width(dashboard.title, 20, 500) + 24
    for variable in dashboard.variables:
        if variable.hidden:
            continue
        label, value = variable.label, svg.cut(view.choices[variable.name].shown or "none", 220, svg.SIZE)
        left, right = svg.text_width(label, svg.SIZE) + 20, svg.text_width(value, svg.SIZE) + 20
        parts.append(svg.rect(Box(x, y - 20, left + right, 28), theme.panel, theme.border, 3))
        parts.append(svg.text(x + 10, y - 2, label, theme.muted))
        parts.append(svg.line(x + left, y - 20, x + left, y + 8, theme.border))
        parts.append(svg.text(x + left + 10, y - 2, value, theme.text))
        x += left + right + 8
    shown = f"Last {span(period.end - period.start)}, to {moment(period.end)} UTC"
    parts.append(svg.text(WIDTH - MARGIN, y - 2, shown, theme.muted, anchor="end"))
    return "".join(parts)


def _panel(panel: Panel, view: View) -> str:
    box, theme = place(panel.place), view.theme
    title = substitute(panel.title, view.for_people())
    if panel.kind == "row":
        y = box.y + 20
        arrow = svg.path(f"M{box.x + 3:g} {y - 7:g}l4 4l4 -4", stroke=theme.muted, width=1.5)
        return arrow + svg.text(box.x + 20, y, title, theme.text, 15, weight=500)
    try:
        points = int(box.width / PIXELS_PER_POINT)
        answers = ask(panel, view.prometheus, view.period, view.for_queries(), theme, points)
        content = _content(panel, answers, box.inside(10, TITLE_HEIGHT, 10, 8), view)
    except PreviewError as error:
        raise type(error)(f"{title}: {error}") from None
    return (
        svg.rect(box.inside(0.5, 0.5, 0.5, 0.5), theme.panel, theme.border, 3)
        + svg.text(box.x + 10, box.y + 22, title, theme.text, 14, weight=500, width=box.width - 20)
        + content
    )


def _content(panel: Panel, answers: Sequence[Answer], box: Box, view: View) -> str:
    there = [answer for answer in answers if panel.kind not in _DRAWN or answer.series.last() is not None]
    if not there:
        text = str(panel.defaults.get("noValue") or "No data")
        return svg.text(box.x + box.width / 2, box.y + box.height / 2 - 4, text, view.theme.muted, 14, "middle")
    if panel.kind == "timeseries":
        return timeseries.draw(panel, there, box, view.theme, view.period, view.events)
    if panel.kind == "heatmap":
        return heatmap.draw(panel, there, box, view.theme, view.period)
    if panel.kind in _OF_NOW:
        return _OF_NOW[panel.kind](panel, there, box, view.theme)
    raise Unsupported(f"panels of the kind {panel.kind} are not known here")


_DRAWN = ("timeseries", "heatmap", "barchart")
"""Kinds in which a value that is no number is not seen."""
_OF_NOW = {"stat": stat.draw, "barchart": barchart.draw, "table": table.draw}
