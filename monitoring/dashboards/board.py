"""The frame of all dashboards."""

from grafana_foundation_sdk.builders.dashboard import CustomVariable, Dashboard, QueryVariable
from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.annotations import annotations
from monitoring.dashboards.layout import Row, lay_out
from monitoring.dashboards.links import TAG, menu


def board(
    uid: str, name: str, description: str, rows: list[Row], *variables: QueryVariable | CustomVariable
) -> model.Dashboard:
    """Return a dashboard, ready to be written as JSON."""
    builder = (
        Dashboard(f"Headrace: {name}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-15m", "now")
        .annotations([*annotations()])
    )
    for variable in variables:
        builder.with_variable(variable)
    dashboard = builder.build()
    dashboard.links = [menu()]
    dashboard.panels = lay_out(rows)
    return dashboard
