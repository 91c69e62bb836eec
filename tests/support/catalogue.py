"""All metrics that gateway and worker export, read from their own registries with every label set present."""

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import Metric

from gateway.broker.stats import QueueStats
from gateway.services import Services
from gateway.settings import GatewaySettings
from shared.queue.contract import Lane
from tests.support.manifests import classifier, stored
from tests.support.processes import REPOSITORY


@dataclass(frozen=True)
class Exported:
    """A metric under its name in queries.

    A histogram has no `_bucket`. Bounds are written as Prometheus writes them.
    """

    name: str
    type: str
    labels: frozenset[str]
    bounds: frozenset[tuple[str, ...]] = frozenset()
    """Bounds of a histogram; each feature may have its own."""


def gateway_metrics(folder: Path) -> list[Exported]:
    """Return the metrics of a gateway that has counted every kind of event."""
    settings = GatewaySettings(default_model="sticks", model_store=str(folder), redis_url="redis://127.0.0.1:1")
    service = Services(settings, stored(folder, classifier()))
    service.catalog.load()
    service.monitor.stats = QueueStats(broker_up=True, memory_bytes=1, memory_limit_bytes=1)

    async def one_request() -> list[Metric]:
        service.metrics.answered("POST", "/predict", 200, 0.1)
        service.metrics.succeeded("sticks", Lane.INTERACTIVE, 0.1)
        await asyncio.sleep(0)
        return list(service.metrics.registry.collect())

    return _exported(_plain(asyncio.run(one_request())))


WORKER = """
import json
from shared.observability.multiprocess import name_files_by
from tests.support.catalogue import _plain
from tests.support.manifests import classifier
from worker.metrics.worker import WorkerMetrics, metrics_shard
from worker.metrics.server import make_registry

name_files_by(metrics_shard)
metrics = WorkerMetrics()
manifest = classifier()
metrics.count_load(manifest, 1.0)
metrics.mark_loaded([manifest])
metrics.shadow_counts("sticks", "v1", "v2")
metrics.count_jobs("sticks", [])
print(json.dumps(_plain(make_registry().collect())))
"""


def worker_metrics(folder: Path) -> list[Exported]:
    """Return the metrics of a worker with a model.

    A separate process counts, since the files must exist before its start.
    """
    ran = subprocess.run(
        [sys.executable, "-c", WORKER],
        cwd=REPOSITORY,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return _exported(json.loads(ran.stdout))


Plain = list[tuple[str, str, list[dict[str, str]]]]
"""Yield name, type and label sets of the samples."""


def _plain(families: Iterable[Metric]) -> Plain:
    return [(family.name, family.type, [dict(sample.labels) for sample in family.samples]) for family in families]


def _exported(families: Plain) -> list[Exported]:
    return list(_each(families))


def _each(families: Plain) -> Iterator[Exported]:
    for name, type_, samples in families:
        assert samples, f"{name} has no series: nothing is known of its labels"
        labels = frozenset(label for sample in samples for label in sample if label != "le")
        bounds: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for sample in samples:
            if "le" in sample and sample["le"] != "+Inf":
                bounds[tuple(value for label, value in sample.items() if label != "le")].append(sample["le"])
        shown = f"{name}_total" if type_ == "counter" else name
        yield Exported(shown, type_, labels, frozenset(map(tuple, bounds.values())))
