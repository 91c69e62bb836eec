"""Queue and workers: does what comes in also go out, and if not, what holds it up?"""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.backlog import backlog_row, now_row, time_row
from monitoring.dashboards.board import board
from monitoring.dashboards.celery import celery_row
from monitoring.dashboards.jobs import jobs_row
from monitoring.dashboards.links import QUEUE
from monitoring.dashboards.variables import instances
from monitoring.dashboards.workers import workers_row


def queue() -> model.Dashboard:
    """The dashboard, ready to be written as JSON."""
    return board(
        QUEUE,
        "queue and workers",
        "How full, how late, who computes, and what became of jobs.",
        [now_row(), backlog_row(), time_row(), workers_row(), jobs_row(), celery_row()],
        instances('up{job="worker"}', "Workers whose throughput, memory and children are shown."),
    )
