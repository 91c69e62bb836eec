"""The row of the queue and its workers: does what comes in also go out?"""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.health import UNACCOUNTED_JOBS
from monitoring.dashboards.panels import Query, Row, lines
from monitoring.dashboards.promql import MODEL, agreed, mean, quantile, rate, total

CELERY_EVENTS = ("received", "started", "succeeded", "failed", "retried")


def jobs_row() -> Row:
    """How full, how late; how batches are packed and slots used; what became of jobs."""
    return Row(
        "Queue and workers",
        8,
        [
            (8, _depth()),
            (8, _age()),
            (8, _wait()),
            (8, _batches()),
            (8, _slots()),
            (8, _outcomes()),
            (6, _open()),
            (6, _conservation()),
            (6, _reconciled()),
            (6, _celery()),
        ],
    )


def _depth() -> model.Panel:
    return lines(
        "Queue depth",
        "Tasks that no worker has taken yet, by lane, and rows that wait in the gateways for a free slot.",
        "short",
        Query(agreed("inference_queue_depth", "lane"), "{{lane}} tasks"),
        Query(total("inference_waiting_rows"), "rows in gateways"),
    )


def _age() -> model.Panel:
    return lines(
        "Oldest job",
        "Age of the task that has waited longest, by lane: the best sign of a backlog, whatever its length.",
        "s",
        Query(agreed("inference_queue_oldest_job_age_seconds", "lane"), "{{lane}}"),
        limit=30,
    )


def _wait() -> model.Panel:
    return lines(
        "Queue wait P95",
        "From acceptance to the start of the batch, as the workers measured it.",
        "s",
        Query(quantile(0.95, "inference_queue_wait_seconds", by=("lane",)), "{{lane}}"),
    )


def _batches() -> model.Panel:
    rows = "inference_batch_rows"
    return lines(
        "Rows per batch",
        "How many rows left together. One row per batch at high traffic means that coalescing does not work.",
        "short",
        Query(mean(rows, MODEL, by=("model",)), "mean {{model}}"),
        Query(quantile(0.95, rows, MODEL, by=("model",)), "P95 {{model}}"),
    )


def _slots() -> model.Panel:
    return lines(
        "Slots in use",
        "Batches being computed, and batches that could be. At the limit for long: add workers.",
        "short",
        Query(total("inference_batches_in_progress"), "in use"),
        Query(agreed("inference_worker_slots"), "announced"),
    )


def _outcomes() -> model.Panel:
    return lines(
        "Jobs by outcome",
        "Jobs accepted and jobs ended. Over time both are equal.",
        "ops",
        Query(agreed(rate("inference_jobs_accepted_total")), "accepted"),
        Query(agreed(rate("inference_jobs_ended_total"), "outcome"), "{{outcome}}"),
    )


def _open() -> model.Panel:
    return lines(
        "Open jobs",
        "Jobs without an outcome yet, and tasks in the hands of a worker.",
        "short",
        Query(agreed("inference_jobs_open"), "open jobs"),
        Query(agreed("inference_queue_unacked"), "unacknowledged tasks"),
    )


def _conservation() -> model.Panel:
    return lines(
        "Accepted − ended − open",
        "Every accepted job is open or has exactly one outcome, so this is 0 at every moment.",
        "short",
        Query(UNACCOUNTED_JOBS, "unaccounted jobs"),
        limit=1,
    )


def _reconciled() -> model.Panel:
    return lines(
        "Reconciled jobs",
        "Overdue jobs, by what a gateway did about them. All but waiting: a message or a worker was lost.",
        "ops",
        Query(total(rate("inference_jobs_reconciled_total"), "action"), "{{action}}"),
    )


def _celery() -> model.Panel:
    return lines(
        "Celery tasks",
        "Tasks as celery-exporter counts Celery's events: a second opinion. A task is a batch of rows or of jobs.",
        "ops",
        *(
            # Scraped every 15 s instead of 5 s.
            Query(f"{total(rate(f'celery_task_{event}_total'))} or vector(0)", event, interval="15s")
            for event in CELERY_EVENTS
        ),
    )
