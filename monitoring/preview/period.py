"""The time that is shown, and what Grafana puts in the place of variables in queries."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitoring.preview.dashboard import Dashboard, Variable
from monitoring.preview.prometheus import Prometheus, QueryFailed

SCRAPE_SECONDS = 5.0
"""As the data source's `timeInterval` says."""

ALL = "$__all"

_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_VARIABLE = re.compile(r"\$(?:\{([a-z_]\w*)(?::\w+)?\}|([a-z_]\w*))")
_LABEL_VALUES = re.compile(r"label_values\((?:(?P<selector>.+),)?\s*(?P<label>\w+)\s*\)")


@dataclass(frozen=True)
class Period:
    """From `start` to `end`, in seconds since 1970, scraped every `scrape_seconds`."""

    start: float
    end: float
    scrape_seconds: float = SCRAPE_SECONDS

    def step(self, points: int, least: float = 0) -> float:
        """Seconds between two points if there shall be about so many, rounded as Grafana does it."""
        wanted = (self.end - self.start) / points
        rounded = next((step for step in _STEPS if wanted < _limit(step)), _STEPS[-1])
        return max(rounded, least or self.scrape_seconds)

    def variables(self, step: float, least: float = 0) -> dict[str, str]:
        """Grafana's own, for a query with this step."""
        scrape = least or self.scrape_seconds
        return {
            "__interval": f"{step:g}s",
            "__rate_interval": f"{max(step + scrape, 4 * scrape):g}s",
            "__range": f"{self.end - self.start:.0f}s",
            "__range_s": f"{self.end - self.start:.0f}",
        }


def _limit(step: int) -> float:
    """What is still rounded down to a step: up to halfway to the next one."""
    index = _STEPS.index(step)
    return (step + _STEPS[min(index + 1, len(_STEPS) - 1)]) / 2


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """Put values in the place of `$name`, `${name}` and `${name:format}`; unknown names stay."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), text)


@dataclass(frozen=True)
class Choice:
    """The value of a variable: for queries, and for people."""

    query: str
    shown: str


def choose(dashboard: Dashboard, prometheus: Prometheus, period: Period) -> dict[str, Choice]:
    """What Grafana chooses when the dashboard is opened, by name. Variables may use those before them.

    Raises:
        QueryFailed: if a variable's query is wrong.
        Unreachable: if Prometheus does not answer.
    """
    choices: dict[str, Choice] = {}
    for variable in dashboard.variables:
        known = {name: choice.query for name, choice in choices.items()}
        choices[variable.name] = _choice(variable, offered(variable, prometheus, period, known))
    return choices


def offered(variable: Variable, prometheus: Prometheus, period: Period, known: Mapping[str, str]) -> list[str]:
    """The values that a person can choose from."""
    if variable.kind == "query":
        own = period.variables(period.scrape_seconds)
        match = _LABEL_VALUES.fullmatch(substitute(variable.query, {**own, **known}))
        if not match:
            raise QueryFailed(f"only label_values(…) is understood: {variable.query}")
        return prometheus.label_values(match["label"], match["selector"] or "", period.start, period.end)
    if variable.kind in ("custom", "interval"):
        return [value.strip() for value in variable.query.split(",")]
    return [variable.query]


def _choice(variable: Variable, values: Sequence[str]) -> Choice:
    wanted = [value for value in variable.current if value in values]
    if variable.all_value is not None and (ALL in variable.current or not wanted):
        return Choice(variable.all_value or _either(values), "All")
    chosen = wanted or list(values[:1])
    if variable.several or variable.all_value is not None:
        return Choice(_either(chosen), " + ".join(chosen))
    return Choice(chosen[0] if chosen else "", chosen[0] if chosen else "")


def _either(values: Sequence[str]) -> str:
    """A regular expression for a text inside quotes."""
    escaped = [re.sub(r"([\\^$.*+?()\[\]{}|])", r"\\\\\1", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
