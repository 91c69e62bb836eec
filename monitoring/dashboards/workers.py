"""Panels of workers: their number, their load, and the cost of their pool children."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, RED
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines, number
from monitoring.dashboards.promql import (
    INSTANCES,
    agreed,
    increase,
    mean,
    moving,
    quantile,
    rate,
    select,
    shown_increase,
    total,
)
from monitoring.rules.scaling import WANTED

ERRORS, LOST = "inference_errors_total", 'code="worker_lost"'
STALLED = "inference_workers_stalled_total"


def workers() -> model.Panel:
    """Return the number of workers."""
    return number(
        "Workers",
        "Workers whose heartbeat reached the broker within the last seconds.",
        "none",
        Query(agreed("inference_workers")),
        steps=((0, RED), (1, GREEN)),
    )


def workers_row() -> Row:
    """Return the row of all workers together, and of each."""
    return Row(
        "Workers and their pool children",
        8,
        [(8, _slots()), (8, _batches()), (8, _throughput()), (8, _memory()), (8, _children()), (8, _started())],
    )


def scaling_row() -> Row:
    """Return the row of the scaling signal."""
    return Row("Scaling", 8, [(24, _wanted())], collapsed=True)


def _slots() -> model.Panel:
    return lines(
        "Slots in use",
        "Batches that are being computed, and the slots of all workers. If all are in use for long, add workers.",
        "short",
        Query(total("inference_batches_in_progress"), "in use"),
        Query(agreed("inference_worker_slots"), "slots"),
    )


def _wanted() -> model.Panel:
    return lines(
        "Wanted workers",
        "The scaling signal of all worker groups: busy slots, and slots for what waits, in workers. An autoscaler that "
        "follows it removes workers only after it was lower for ten minutes.",
        "short",
        Query(total(WANTED), "wanted"),
        Query(agreed("inference_workers"), "workers"),
    )


def _batches() -> model.Panel:
    rows = "inference_batch_rows"
    return lines(
        "Rows per batch",
        "Rows that are computed together. One row per batch at high traffic means that batching does not work.",
        "short",
        Query(mean(rows, by=("model",)), "mean {{model}}"),
        Query(quantile(0.95, rows, by=("model",)), "P95 {{model}}"),
    )


def _throughput() -> model.Panel:
    return lines(
        "Throughput by worker",
        "Predicted and failed rows of each worker. Equal workers should have equal rates.",
        "rowsps",
        Query(total(rate("inference_predictions_total", INSTANCES), "instance"), "{{instance}}"),
    )


def _memory() -> model.Panel:
    memory = select("inference_worker_children_memory_bytes", INSTANCES)
    return lines(
        "Memory of the children",
        "Memory of all pool children of a worker together; shared pages count once. It includes models that were "
        "loaded after the fork, up to WORKER_MEMORY_BUDGET_BYTES for each child.",
        "bytes",
        Query(total(memory, "instance"), "{{instance}}"),
    )


def _children() -> model.Panel:
    processes = select("inference_worker_pool_processes", INSTANCES)
    return lines(
        "Pool processes",
        "Live pool children of each worker. Fewer than WORKER_CONCURRENCY for more than a moment means that they die.",
        "short",
        Query(total(processes, "instance"), "{{instance}}"),
    )


def _started() -> model.Panel:
    started = increase("inference_worker_children_started_total", INSTANCES)
    lost = moving(*(total(grown(ERRORS, LOST), "model", "version") for grown in (increase, shown_increase)))
    stalled = moving(*(agreed(grown(STALLED)) for grown in (increase, shown_increase)))
    return lines(
        "Children started, rows lost, workers stalled",
        "Pool children that were started lately: unless the worker restarted, each replaces one that died. Also rows "
        "that were lost with their process, and workers that stopped consuming and ended themselves.",
        "short",
        Query(total(started, "instance"), "started by {{instance}}"),
        Query(lost, "lost of {{model}} {{version}}"),
        Query(stalled, "workers stalled"),
    )
