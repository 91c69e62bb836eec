"""Panels of alerts: which fire, and since when."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import BLUE, GREEN, ORANGE, RED, YELLOW
from monitoring.dashboards.panels import Column, Query, listing, number
from monitoring.dashboards.promql import otherwise

NOTHING = {"alertname": "nothing", "severity": "–"}
"""The labels of a row that replaces an empty table."""

SEVERITY = Column(
    names={"critical": ("critical", RED), "warning": ("warning", ORANGE), "info": ("info", BLUE), "–": ("–", GREEN)}
)
STATE = Column(names={"firing": ("firing", RED), "pending": ("pending", YELLOW), "–": ("–", GREEN)})


def firing_count() -> model.Panel:
    """Return the number of firing alerts that need attention."""
    return number(
        "Firing alerts",
        "Firing alerts, except those of severity info. docs/runbook.md says what to do about each.",
        "none",
        Query('sum(ALERTS{alertstate="firing", severity!="info"}) or vector(0)'),
        steps=((0, GREEN), (1, RED)),
    )


def firing() -> model.Panel:
    """Return the table of firing alerts."""
    return listing(
        "Firing alerts by name",
        "Firing alerts, and for how many models, instances or lanes; the platform dashboard names them. "
        "docs/runbook.md says what to do about each.",
        Query(
            otherwise('count by (severity, alertname) (ALERTS{alertstate="firing"})', "vector(0)", **NOTHING),
            "series",
        ),
        columns={"severity": SEVERITY, "alertname": Column(), "series": Column(unit="none")},
        descending="series",
    )


def open_alerts() -> model.Panel:
    """Return the table of firing and pending alerts with all of their labels."""
    return listing(
        "Open alerts",
        "Firing alerts, and pending ones, which fire if their condition lasts; with labels and start. docs/runbook.md "
        "says what to do about each.",
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
