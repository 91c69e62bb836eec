"""The dashboard of queue and workers: the backlog, and its causes."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.backlog import backlog_row, numbers, time_row
from monitoring.dashboards.board import board
from monitoring.dashboards.broker import broker, memory_row
from monitoring.dashboards.celery import celery_row
from monitoring.dashboards.jobs import dead_letters, jobs_row, unaccounted
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import QUEUE
from monitoring.dashboards.variables import instances
from monitoring.dashboards.workers import scaling_row, workers, workers_row


def queue() -> model.Dashboard:
    """Return the dashboard, ready to be written as JSON."""
    return board(
        QUEUE,
        "queue and workers",
        "Length and age of the queue, work of the workers, and outcomes of jobs.",
        [_now_row(), backlog_row(), time_row(), workers_row(), jobs_row(), memory_row(), scaling_row(), celery_row()],
        instances('up{job="worker"}', "Workers whose throughput, memory and children are shown."),
    )


def _now_row() -> Row:
    """Return the numbers of the backlog, then its possible causes."""
    reasons = [broker(), workers(), unaccounted(), dead_letters()]
    return Row("Now", 4, [(6, panel) for panel in (*numbers(), *reasons)])
