"""Celery's own view, which celery-exporter takes from events: a second opinion, every 15 s instead of every 5 s."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines
from monitoring.dashboards.promql import agreed, moving_rate, quantile

EVENTS = ("received", "started", "succeeded", "failed", "retried", "rejected")
INTERVAL = "15s"
NO_EXPORTER = "no celery-exporter, or no task yet"


def celery_row() -> Row:
    """Return the row of tasks and workers."""
    return Row(
        "Celery's own view",
        8,
        [(12, _tasks()), (12, _runtime()), (8, _up()), (8, _active()), (8, _length())],
        collapsed=True,
    )


def _tasks() -> model.Panel:
    return lines(
        "Celery tasks",
        "Tasks by Celery's events. A task is a chain of batches of rows, of up to a second, or a batch of jobs; "
        "entries that a child takes itself have no events.",
        "ops",
        *(Query(moving_rate(f"celery_task_{event}_total"), event, INTERVAL) for event in EVENTS),
        no_value=NO_EXPORTER,
    )


def _runtime() -> model.Panel:
    return lines(
        "Celery task runtime",
        "P95 of tasks that succeeded, from their start to their end: loading, computing and answering. Under load a "
        "task of predictions is a chain of up to a second.",
        "s",
        Query(quantile(0.95, "celery_task_runtime", by=("name",)), "{{name}}", INTERVAL),
        no_value=NO_EXPORTER,
    )


def _up() -> model.Panel:
    return lines(
        "Celery workers up",
        "1: the worker has sent a heartbeat lately. Workers that have ended stay here as 0 for ten minutes.",
        "none",
        Query(agreed("celery_worker_up", "hostname"), "{{hostname}}", INTERVAL),
        no_value=NO_EXPORTER,
    )


def _active() -> model.Panel:
    return lines(
        "Active tasks",
        "Tasks that each worker is running, by its last heartbeat.",
        "short",
        Query(agreed("celery_worker_tasks_active", "hostname"), "{{hostname}}", INTERVAL),
        no_value=NO_EXPORTER,
    )


def _length() -> model.Panel:
    return lines(
        "Queue length",
        "Entries that wait, by Celery's queue. The depth by lane above comes from the gateways and is read more often.",
        "short",
        Query(agreed("celery_queue_length", "queue_name"), "{{queue_name}}", INTERVAL),
        no_value=NO_EXPORTER,
    )
