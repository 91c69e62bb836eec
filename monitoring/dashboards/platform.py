"""The dashboard of the platform: the monitoring itself, and the cost of the processes."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.alerts import firing_count, open_alerts
from monitoring.dashboards.board import board
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import PLATFORM
from monitoring.dashboards.processes import processes_row, releases
from monitoring.dashboards.prometheus import failures, prometheus_row
from monitoring.dashboards.scrapes import scrapes_row, targets
from monitoring.dashboards.variables import instances


def platform() -> model.Dashboard:
    """Return the dashboard, ready to be written as JSON."""
    return board(
        PLATFORM,
        "platform",
        "Alerts, targets, scrapes and rules; memory, CPU and restarts of the processes; the broker's memory.",
        [_now_row(), _alerts_row(), scrapes_row(), processes_row(), prometheus_row()],
        instances("up", "Targets whose scrapes and processes are shown."),
    )


def _now_row() -> Row:
    return Row("Now", 4, [(12, targets()), (4, firing_count()), (4, failures()), (4, releases())])


def _alerts_row() -> Row:
    return Row("Alerts", 8, [(24, open_alerts())])
