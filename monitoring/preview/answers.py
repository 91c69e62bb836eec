"""What a panel's queries say, under the names that its legend shows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.preview.colours import Theme
from monitoring.preview.dashboard import Panel, Target
from monitoring.preview.fields import Field, field_of
from monitoring.preview.period import Period, substitute
from monitoring.preview.prometheus import Prometheus, Series

AUTO = "__auto"
_LABEL = re.compile(r"\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True)
class Answer:
    """One series of a panel."""

    name: str
    ref_id: str
    series: Series
    field: Field
    step: float
    """Seconds between two values; a larger distance is a gap."""


def ask(
    panel: Panel, prometheus: Prometheus, period: Period, variables: Mapping[str, str], theme: Theme, points: int
) -> list[Answer]:
    """All series of a panel, of about so many points each.

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
            # Back from the end, so that the newest is in it however long a step is.
            start = period.end - (period.end - period.start) // step * step
            found = prometheus.range(expr, start, period.end, step)
        for series in found:
            name = name_of(series.labels, target, expr)
            field = field_of(panel, theme, len(answers), name, target.ref_id)
            shown = str(field.config.get("displayName") or name)
            answers.append(Answer(shown, target.ref_id, series, field, step))
    return answers


def filled(template: str, labels: Mapping[str, str]) -> str:
    """A legend with values in the place of `{{label}}`, nothing where there is no such label."""
    return " ".join(_LABEL.sub(lambda match: labels.get(match[1], ""), template).split())


def name_of(labels: Mapping[str, str], target: Target, expr: str) -> str:
    """What the legend calls a series."""
    if target.legend not in ("", AUTO):
        return filled(target.legend, labels)
    if not labels:
        return expr
    if target.legend == AUTO and len(labels) == 1:
        return next(iter(labels.values()))
    inside = ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    return f"{labels.get('__name__', '')}{{{inside}}}"
