"""The pool children as the main process can tell without asking them."""

import os
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.metrics import PREFIX
from shared.process_metrics import live_children, memory_bytes


class PoolMetrics(Collector):
    """How many there are and what memory they take, together."""

    def collect(self) -> Iterator[Metric]:
        """Read when asked; nothing where there is no /proc."""
        try:
            children = live_children(os.getpid())
        except OSError:
            return
        yield GaugeMetricFamily(f"{PREFIX}worker_pool_processes", "Pool children that are alive.", value=len(children))
        yield GaugeMetricFamily(
            f"{PREFIX}worker_children_memory_bytes",
            "Memory of the pool children together; of a page that n processes share, an nth.",
            value=sum(map(memory_bytes, children)),
        )
