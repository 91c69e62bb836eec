"""Panels of Prometheus: its rules, on which alerts and half of the dashboards depend, and its size."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, RED
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines, number
from monitoring.dashboards.promql import agreed, increase, moving, shown_increase, total

FAILURES = "prometheus_rule_evaluation_failures_total"


def failures() -> model.Panel:
    """Return the number of failed evaluations."""
    return number(
        "Failed rules",
        "Rule evaluations that failed lately. Alerts and panels that need these rules are blind.",
        "none",
        Query(f"{total(increase(FAILURES))} or vector(0)"),
        steps=((0, GREEN), (0.5, RED)),
    )


def prometheus_row() -> Row:
    """Return the row of rules and size."""
    return Row("Prometheus", 8, [(9, _duration()), (9, _failures()), (6, _series())])


def _duration() -> model.Panel:
    return lines(
        "Rule evaluation",
        "Time of the last evaluation of each group. drift-24h reads a day of samples every two minutes and takes the "
        "longest.",
        "s",
        Query(_by_group(agreed("prometheus_rule_group_last_duration_seconds", "rule_group")), "{{rule_group}}"),
    )


def _failures() -> model.Panel:
    return lines(
        "Rule failures",
        "Evaluations that failed lately, by group.",
        "short",
        Query(
            _by_group(moving(total(increase(FAILURES), "rule_group"), total(shown_increase(FAILURES), "rule_group"))),
            "{{rule_group}}",
        ),
        limits=((0.5, RED),),
        no_value="none failed",
    )


def _by_group(expression: str) -> str:
    """Shorten the label to the name of the group: Prometheus puts the path of its file in front."""
    return f'label_replace({expression}, "rule_group", "$1", "rule_group", ".*;(.*)")'


def _series() -> model.Panel:
    return lines(
        "Series in memory",
        "Series of all targets and rules. Growth without new models or versions means a label with unbounded values.",
        "short",
        Query(total("prometheus_tsdb_head_series"), "series"),
    )
