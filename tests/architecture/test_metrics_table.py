"""docs/metrics.md against what gateway and worker export."""

import re
import sys
from pathlib import Path

import pytest

from shared.observability import metric_names as names
from tests.support.catalogue import Exported, gateway_metrics, worker_metrics
from tests.support.processes import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "metrics.md").read_text()

BUCKETS = {
    "latency": names.LATENCY_BUCKETS_SECONDS,
    "compute": names.COMPUTE_BUCKETS_SECONDS,
    "wait": names.QUEUE_WAIT_BUCKETS_SECONDS,
    "rows": names.BATCH_ROWS_BUCKETS,
    "confidence": names.CONFIDENCE_BUCKETS,
}
OF_THE_MANIFEST = {"inference_feature_value": "its own"}
NEEDS_PROC = re.compile(r"process_|inference_worker_(pool|children_memory)")

Row = tuple[str, str, frozenset[str], str]
"""Name, type, labels, buckets."""


def table(name: str) -> list[list[str]]:
    """Return the cells of a table, without its head."""
    text = DOCUMENT.split(f"<!-- {name}:")[1].split(f"<!-- /{name} -->")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


def written(process: str) -> list[Row]:
    """Return the metrics that the table assigns to a process."""
    return sorted(
        (name.strip("`"), type_, frozenset(re.findall(r"`(\w+)`", labels)), buckets)
        for name, type_, labels, places, buckets, _ in table("metrics")
        if process in [place.split()[0] for place in places.split(", ")]
        and not (sys.platform != "linux" and NEEDS_PROC.match(name.strip("`")))
    )


def exported(metrics: list[Exported]) -> list[Row]:
    return sorted((each.name, each.type, each.labels, buckets_of(each)) for each in metrics)


def buckets_of(metric: Exported) -> str:
    if metric.type != "histogram":
        return ""
    if metric.name in OF_THE_MANIFEST:
        return OF_THE_MANIFEST[metric.name]
    [bounds] = metric.bounds
    return next(name for name, known in BUCKETS.items() if tuple(map(float, bounds)) == tuple(map(float, known)))


def test_the_table_is_what_a_gateway_exports(tmp_path: Path) -> None:
    assert written("gateway") == exported(gateway_metrics(tmp_path))


def test_the_table_is_what_a_worker_exports(tmp_path: Path) -> None:
    assert written("worker") == exported(worker_metrics(tmp_path))


def test_the_bounds_are_those_of_the_code() -> None:
    documented = {name: [float(bound) for bound in bounds.split(", ")] for name, bounds, _ in table("buckets")}
    assert documented == {name: [float(bound) for bound in bounds] for name, bounds in BUCKETS.items()}


@pytest.mark.parametrize("cells", [*table("metrics"), *table("buckets")], ids=lambda cells: cells[0])
def test_every_row_says_what_it_is(cells: list[str]) -> None:
    assert cells[-1].endswith(".")


def test_every_metric_is_there_once() -> None:
    found = [cells[0] for cells in table("metrics")]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("words", "module", "constant"),
    [
        ("{} features", "worker.metrics.model", "FEATURES_MAX"),
        ("{} bins", "worker.metrics.bins", "BINS_MAX"),
        ("{} series of versions", "worker.metrics.model", "SERIES_MAX"),
        ("{} characters", "worker.metrics.bins", "LABEL_MAX_CHARACTERS"),
        ("{} bytes of names and bins", "worker.metrics.model", "SERIES_BYTES"),
        ("{} models", "shared.observability.metric_names", "MODELS_MAX"),
        ("{} trials", "worker.metrics.worker", "TRIALS_MAX"),
        ("more than {} samples", "monitoring.rules.alerts_platform", "SAMPLE_LIMIT"),
    ],
)
def test_the_caps_are_those_of_the_code(words: str, module: str, constant: str) -> None:
    value = getattr(pytest.importorskip(module), constant)
    assert words.format(f"{value:,}") in DOCUMENT
