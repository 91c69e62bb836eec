"""Workers: how many there are, how busy, and what their children cost."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import GREEN, RED, Query, lines, number
from monitoring.dashboards.promql import INSTANCES, agreed, increase, mean, quantile, rate, select, total


def workers() -> model.Panel:
    """How many there are."""
    return number(
        "Workers",
        "Workers that announced themselves through the broker within the last seconds.",
        "none",
        Query(agreed("inference_workers")),
        steps=((0, RED), (1, GREEN)),
    )


def workers_row() -> Row:
    """All together, then each."""
    return Row(
        "Workers and their children",
        8,
        [(8, _slots()), (8, _batches()), (8, _throughput()), (8, _memory()), (8, _children()), (8, _started())],
    )


def _slots() -> model.Panel:
    return lines(
        "Slots in use",
        "Batches being computed, and batches that could be: pool children of all workers. At the limit for long: add "
        "workers.",
        "short",
        Query(total("inference_batches_in_progress"), "in use"),
        Query(agreed("inference_worker_slots"), "announced"),
    )


def _batches() -> model.Panel:
    rows = "inference_batch_rows"
    return lines(
        "Rows per batch",
        "How many rows left together. One row per batch at high traffic means that coalescing does not work.",
        "short",
        Query(mean(rows, by=("model",)), "mean {{model}}"),
        Query(quantile(0.95, rows, by=("model",)), "P95 {{model}}"),
    )


def _throughput() -> model.Panel:
    return lines(
        "Throughput by worker",
        "Rows that each worker predicted, or failed to. Workers that are alike should do alike.",
        "rowsps",
        Query(total(rate("inference_predictions_total", INSTANCES), "instance"), "{{instance}}"),
    )


def _memory() -> model.Panel:
    memory = select("inference_worker_children_memory_bytes", INSTANCES)
    return lines(
        "Memory of the children",
        "Of all pool children of a worker together; pages that they share count once. Models that are loaded later "
        "than the fork are in here, up to WORKER_MEMORY_BUDGET_BYTES for each child.",
        "bytes",
        Query(total(memory, "instance"), "{{instance}}"),
    )


def _children() -> model.Panel:
    processes = select("inference_worker_pool_processes", INSTANCES)
    return lines(
        "Pool processes",
        "Live children of each worker. Fewer than WORKER_CONCURRENCY for longer than a moment: they die.",
        "short",
        Query(total(processes, "instance"), "{{instance}}"),
    )


def _started() -> model.Panel:
    started = increase("inference_worker_children_started_total", INSTANCES)
    lost = increase("inference_errors_total", 'code="worker_lost"')
    return lines(
        "Children started, rows lost, workers stalled",
        "Children that were forked lately: but for a restart of the worker, each takes the place of one that died. And "
        "rows that were lost with their process, of all workers, and workers that had stopped consuming and ended.",
        "short",
        Query(total(started, "instance"), "started by {{instance}}"),
        Query(total(lost, "model", "version"), "lost of {{model}} {{version}}"),
        Query(agreed(increase("inference_workers_stalled_total")), "workers stalled"),
    )
