"""Alerts: which fire, and since when."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.panels import BLUE, GREEN, ORANGE, RED, YELLOW, Column, Query, listing, number
from monitoring.dashboards.promql import otherwise

NOTHING = {"alertname": "nothing", "severity": "–"}
"""A row that says so, instead of an empty table."""

SEVERITY = Column(
    names={"critical": ("critical", RED), "warning": ("warning", ORANGE), "info": ("info", BLUE), "–": ("–", GREEN)}
)
STATE = Column(names={"firing": ("firing", RED), "pending": ("pending", YELLOW), "–": ("–", GREEN)})


def firing_count() -> model.Panel:
    """How many fire that somebody has to look at."""
    return number(
        "Firing alerts",
        "Alerts that fire, without those of severity info. docs/runbook.md says what to do about each.",
        "none",
        Query('sum(ALERTS{alertstate="firing", severity!="info"}) or vector(0)'),
        steps=((0, GREEN), (1, RED)),
    )


def firing() -> model.Panel:
    """Which fire."""
    return listing(
        "What fires",
        "Alerts that fire, and for how many models, instances or lanes; which ones stands in the dashboard of the "
        "platform. docs/runbook.md says what to do about each.",
        Query(
            otherwise('count by (severity, alertname) (ALERTS{alertstate="firing"})', "vector(0)", **NOTHING),
            "series",
        ),
        columns={"severity": SEVERITY, "alertname": Column(), "series": Column(unit="none")},
        descending="series",
    )


def open_alerts() -> model.Panel:
    """Which fire or will, with all that is known of them."""
    return listing(
        "Open alerts",
        "Every alert that fires, or will if it lasts (pending), with its labels and since when. docs/runbook.md says "
        "what to do about each.",
        Query(
            otherwise(
                "ALERTS * ignoring (alertstate) group_left () (ALERTS_FOR_STATE * 1000)",
                "vector(time() * 1000)",
                alertstate="–",
                **NOTHING,
            ),
            "since",
        ),
        columns={
            "severity": SEVERITY,
            "alertstate": STATE,
            "alertname": Column(),
            "since": Column(unit="dateTimeAsIso"),
        },
    )
