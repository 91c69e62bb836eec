"""Panels of objectives: the error budget, what is left of it, and how fast it is spent."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.alerts import firing
from monitoring.dashboards.colours import GREEN, ORANGE, RED, YELLOW
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import PLATFORM, leading_to
from monitoring.dashboards.panels import Column, Query, lines, listing
from monitoring.dashboards.promql import MODELS_OR_NONE, agreed, moving, named, select, shown_maximum

PACES = ((0, GREEN), (1, YELLOW), (6, ORANGE), (14.4, RED))
"""Burn rates: at 1 the budget lasts 30 days; the others are those at which alerts fire."""


def objectives_row() -> Row:
    """Return the row of firing alerts and error budgets."""
    return Row("Alerts and objectives", 8, [(7, leading_to(PLATFORM, firing())), (10, _objectives()), (7, _burn())])


def _recorded(series: str) -> str:
    """Return a series of every objective. Those of jobs are about all models."""
    return _named(select(f"slo:inference_{series}", MODELS_OR_NONE))


def _named(series: str) -> str:
    return named(agreed(series, "slo", "model", "lane"), "model", "all")


def _objectives() -> model.Panel:
    burn = Column(decimals=1, steps=PACES)
    return listing(
        "Error budget",
        "Share of the errors allowed in 30 days that is left, and burn rates: at 1 the budget lasts 30 days; alerts "
        "fire at 14.4 over 1h, 6 over 6h, 1 over 3d. docs/runbook.md has the objectives.",
        Query(_recorded("budget_left:ratio30d"), "left"),
        Query(_recorded("burn:rate5m"), "5m"),
        Query(_recorded("burn:rate1h"), "1h"),
        Query(_recorded("burn:rate6h"), "6h"),
        Query(_recorded("burn:rate3d"), "3d"),
        columns={
            "slo": Column(),
            "model": Column(),
            "lane": Column(),
            "left": Column("percentunit", decimals=1, steps=((0, RED), (0.25, YELLOW), (0.5, GREEN))),
            "5m": burn,
            "1h": burn,
            "6h": burn,
            "3d": burn,
        },
        descending="1h",
        no_value="not computed yet",
    )


def _burn() -> model.Panel:
    series = "burn:rate1h"
    highest = _named(shown_maximum(f"slo:inference_{series}", MODELS_OR_NONE))
    return lines(
        "Burn rate",
        "Errors of the last hour, as a multiple of the allowed rate. At 1 the budget lasts 30 days.",
        "none",
        Query(moving(_recorded(series), highest), "{{slo}} {{model}} {{lane}}"),
        limits=PACES[1:],
        no_value="no errors",
    )
