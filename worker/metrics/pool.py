"""Metrics of the pool children that the main process can read without asking them."""

import os
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.observability.metric_names import PREFIX
from shared.observability.processes import live_children, memory_bytes


class PoolMetrics(Collector):
    """The number of pool children and their memory in all; no series where there is no /proc.

    The kernel takes 2 ms to add up the memory of a small process, and longer for a large one. So each scrape reads the
    memory of one child, in turn, and of every child that is new.
    """

    def __init__(self) -> None:
        self._memory_bytes: dict[int, int] = {}
        """Process id -> memory, the oldest reading first."""

    def collect(self) -> Iterator[Metric]:
        """Read the metrics for a scrape."""
        try:
            children = live_children(os.getpid())
        except OSError:
            return
        yield GaugeMetricFamily(f"{PREFIX}worker_pool_processes", "Pool children that are alive.", value=len(children))
        yield GaugeMetricFamily(
            f"{PREFIX}worker_children_memory_bytes",
            "Memory of the pool children together; of a page that n processes share, an nth.",
            value=self._read_memory(children),
        )

    def _read_memory(self, children: list[int]) -> int:
        """Return the memory of all children in bytes, after renewing the oldest reading and adding new children."""
        known = {pid: size for pid, size in self._memory_bytes.items() if pid in children}
        for pid in [pid for pid in children if pid not in known] or list(known)[:1]:
            known.pop(pid, None)
            known[pid] = memory_bytes(pid)
        # Replaced as a whole, because another scrape may run in another thread.
        self._memory_bytes = known
        return sum(known.values())
