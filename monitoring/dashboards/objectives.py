"""Panels of objectives: the error budget, what is left of it, and how fast it is spent."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.alerts import firing
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import PLATFORM, leading_to
from monitoring.dashboards.panels import GREEN, ORANGE, RED, YELLOW, Column, Query, lines, listing
from monitoring.dashboards.promql import MODELS_OR_NONE, agreed, named, select

PACES = ((0, GREEN), (1, YELLOW), (6, ORANGE), (14.4, RED))
"""Burn rates: at 1 the budget lasts 30 days; the others are those at which alerts fire."""


def objectives_row() -> Row:
    """Return the row of firing alerts and error budgets."""
    return Row("Alerts and objectives", 8, [(7, leading_to(PLATFORM, firing())), (10, _objectives()), (7, _burn())])


def _recorded(series: str) -> str:
    """Return a series of every objective. Those of jobs are about all models."""
    return named(agreed(select(f"slo:inference_{series}", MODELS_OR_NONE), "slo", "model", "lane"), "model", "all")


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
    return lines(
        "Burn rate",
        "Errors of the last hour, as a multiple of the allowed rate. At 1 the budget lasts 30 days.",
        "none",
        Query(_recorded("burn:rate1h"), "{{slo}} {{model}} {{lane}}"),
        limits=PACES[1:],
    )
