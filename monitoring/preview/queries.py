"""The time that is shown, the values of Grafana's variables, and the answers to a panel's queries."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitoring.preview.dashboard import Annotation, Dashboard, Panel, Variable
from monitoring.preview.prometheus import Prometheus, QueryFailed, Series
from monitoring.preview.values import script_pattern, script_template

SCRAPE_SECONDS = 5.0
"""The data source's `timeInterval`."""

ALL = "$__all"
ANNOTATION_STEP_SECONDS = 15

_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_VARIABLE = re.compile(r"\$(?:\{([a-z_]\w*)(?::\w+)?\}|([a-z_]\w*))")
_LABEL_VALUES = re.compile(r"label_values\((?:(?P<selector>.+),)?\s*(?P<label>\w+)\s*\)")
_QUERY_RESULT = re.compile(r"query_result\((.+)\)")
_LABEL = re.compile(r"\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True)
class Period:
    """The time from `start` to `end`, in seconds since 1970, scraped every `scrape_seconds`."""

    start: float
    end: float
    scrape_seconds: float = SCRAPE_SECONDS

    def step(self, points: int, least: float = 0) -> float:
        """Return a round number of seconds between two points if there shall be about so many."""
        wanted = (self.end - self.start) / points
        return max(next((step for step in _STEPS if wanted <= step), _STEPS[-1]), least or self.scrape_seconds)

    def variables(self, step: float, least: float = 0) -> dict[str, str]:
        """Return Grafana's own variables for a query with this step."""
        scrape = least or self.scrape_seconds
        seconds = f"{self.end - self.start:.0f}"
        rate_interval = f"{max(step + scrape, 4 * scrape):g}s"
        return {
            "__interval": f"{step:g}s",
            "__rate_interval": rate_interval,
            "__range": f"{seconds}s",
            "__range_s": seconds,
        }


@dataclass(frozen=True)
class Choice:
    """The value of a variable: for queries, and for people."""

    query: str
    shown: str
    values: tuple[str, ...] = ()
    """The chosen values, one by one."""


@dataclass(frozen=True)
class Answer:
    """One series of a panel under the name of its legend; more than `step` seconds between two values are a gap."""

    name: str
    ref_id: str
    series: Series
    step: float


@dataclass(frozen=True)
class Event:
    """A moment to mark in the charts."""

    time: float
    colour: str
    text: str


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """Put values in the place of `$name`, `${name}` and `${name:format}`; unknown names stay."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), text)


def choose(dashboard: Dashboard, prometheus: Prometheus, period: Period) -> dict[str, Choice]:
    """Return Grafana's choice for each variable when it opens the dashboard. Variables may use those before them."""
    choices: dict[str, Choice] = {}
    for variable in dashboard.variables:
        known = {name: choice.query for name, choice in choices.items()}
        choices[variable.name] = _choice(variable, offered(variable, prometheus, period, known))
    return choices


def offered(variable: Variable, prometheus: Prometheus, period: Period, known: Mapping[str, str]) -> list[str]:
    """Return the values that a person can choose from.

    Raises:
        QueryFailed: if its query is neither `label_values` nor `query_result`.
    """
    if variable.kind != "query":
        return [value.strip() for value in variable.query.split(",")]
    own = period.variables(period.scrape_seconds)
    query = substitute(variable.query, {**own, **known})
    if result := _QUERY_RESULT.fullmatch(query):
        return _results(prometheus.instant(result[1], period.end), script_pattern(variable.pattern))
    match = _LABEL_VALUES.fullmatch(query)
    if not match:
        raise QueryFailed(f"only label_values(…) and query_result(…) are understood: {variable.query}")
    return prometheus.label_values(match["label"], match["selector"] or "", period.start, period.end)


def _results(found: Sequence[Series], pattern: re.Pattern[str]) -> list[str]:
    """Return the part of each series, as Grafana writes it, that the pattern's group matches."""
    labels = (",".join(f'{name}="{value}"' for name, value in each.labels.items()) for each in found)
    return [match[1] for text in labels if (match := pattern.search(f"{{{text}}}"))]


def _choice(variable: Variable, values: Sequence[str]) -> Choice:
    wanted = [value for value in variable.current if value in values]
    if variable.all_value is not None and (ALL in variable.current or not wanted):
        return Choice(variable.all_value or "|".join(map(re.escape, values)), "All", tuple(values))
    chosen = (wanted or [*values, ""])[0]
    return Choice(chosen, chosen, (chosen,))


def ask(
    panel: Panel, prometheus: Prometheus, period: Period, variables: Mapping[str, str], points: int
) -> list[Answer]:
    """Return all series of a panel, of about so many points each.

    Raises:
        QueryFailed: if Prometheus refuses one of its queries.
        Unreachable: if Prometheus does not answer.
    """
    answers: list[Answer] = []
    for target in panel.targets:
        step = period.step(points, target.interval_seconds)
        expr = substitute(target.expr, {**period.variables(step, target.interval_seconds), **variables})
        if target.instant:
            found = prometheus.instant(expr, period.end)
        else:
            # Steps count back from the end, so that the newest value is among them.
            start = period.end - (period.end - period.start) // step * step
            found = prometheus.range(expr, start, period.end, step)
        names = (_renamed(panel, filled(target.legend, each.labels) or expr) for each in found)
        answers += [Answer(name, target.ref_id, each, step) for name, each in zip(names, found, strict=True)]
    return answers


def _renamed(panel: Panel, name: str) -> str:
    """Return a name of the legend after the panel's transformation, if it has one."""
    for options in (each["options"] for each in panel.transformations if each["id"] == "renameByRegex"):
        name = script_pattern(options["regex"]).sub(script_template(options["renamePattern"]), name)
    return name


def filled(template: str, labels: Mapping[str, str]) -> str:
    """Return a legend with values in the place of `{{label}}`, nothing where there is no such label."""
    return " ".join(_LABEL.sub(lambda match: labels.get(match[1], ""), template).split())


def events_of(
    annotation: Annotation, prometheus: Prometheus, period: Period, variables: Mapping[str, str]
) -> list[Event]:
    """Return the moments that an annotation marks: its values, or when a series begins."""
    step = max(period.scrape_seconds, min(ANNOTATION_STEP_SECONDS, period.step(200)))
    expr = substitute(annotation.expr, {**period.variables(step), **variables})
    events = []
    for series in prometheus.range(expr, period.start, period.end, step):
        if annotation.at_value:
            times = {value / 1000 for value in series.values if math.isfinite(value)}
        else:
            before = [-math.inf, *series.times]
            times = {now for was, now in zip(before, series.times, strict=False) if now - was > 1.5 * step}
        text = filled(annotation.text, series.labels) or annotation.name
        events += [Event(time, annotation.colour, text) for time in sorted(times) if period.start <= time <= period.end]
    return events
