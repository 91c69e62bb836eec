"""Prometheus itself: its rules, on which alerts and half of the dashboards depend, and its size."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import GREEN, RED, Query, lines, number
from monitoring.dashboards.promql import agreed, increase, total

FAILURES = "prometheus_rule_evaluation_failures_total"


def failures() -> model.Panel:
    """Whether rules fail."""
    return number(
        "Failed rules",
        "Evaluations of rules that failed lately. Alerts and panels that need them are blind.",
        "none",
        Query(f"{total(increase(FAILURES))} or vector(0)"),
        steps=((0, GREEN), (0.5, RED)),
    )


def prometheus_row() -> Row:
    """Rules, then size."""
    return Row("Prometheus", 8, [(9, _duration()), (9, _failures()), (6, _series())])


def _duration() -> model.Panel:
    return lines(
        "Rule evaluation",
        "Time of the last evaluation of each group. drift-24h reads a day of samples every two minutes and is the dear "
        "one.",
        "s",
        Query(_by_group(agreed("prometheus_rule_group_last_duration_seconds", "rule_group")), "{{rule_group}}"),
    )


def _failures() -> model.Panel:
    return lines(
        "Rule failures",
        "Evaluations that failed lately, by group.",
        "short",
        Query(_by_group(total(increase(FAILURES), "rule_group")), "{{rule_group}}"),
        limits=((0.5, RED),),
    )


def _by_group(expression: str) -> str:
    """By the name of a group alone: Prometheus puts the path of its file in front."""
    return f'label_replace({expression}, "rule_group", "$1", "rule_group", ".*;(.*)")'


def _series() -> model.Panel:
    return lines(
        "Series in memory",
        "Of all targets and rules. Growth without new models or versions means a label that is not from a closed set.",
        "short",
        Query(total("prometheus_tsdb_head_series"), "series"),
    )
