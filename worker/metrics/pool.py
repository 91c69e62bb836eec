"""The pool children as the main process can tell without asking them."""

import os
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.observability.metric_names import PREFIX
from shared.observability.processes import live_children, memory_bytes


class PoolMetrics(Collector):
    """How many there are and what memory they take, together; nothing where there is no /proc.

    The kernel takes 2 ms to say what memory a small process takes, and longer for a large one. So each time one child
    is looked at, in turn, besides those that are new.
    """

    def __init__(self) -> None:
        self._memory_bytes: dict[int, int] = {}
        """Process id -> memory, the oldest reading first."""

    def collect(self) -> Iterator[Metric]:
        """Read when asked."""
        try:
            children = live_children(os.getpid())
        except OSError:
            return
        yield GaugeMetricFamily(f"{PREFIX}worker_pool_processes", "Pool children that are alive.", value=len(children))
        yield GaugeMetricFamily(
            f"{PREFIX}worker_children_memory_bytes",
            "Memory of the pool children together; of a page that n processes share, an nth.",
            value=self._look(children),
        )

    def _look(self, children: list[int]) -> int:
        known = {pid: size for pid, size in self._memory_bytes.items() if pid in children}
        for pid in [pid for pid in children if pid not in known] or list(known)[:1]:
            known.pop(pid, None)
            known[pid] = memory_bytes(pid)
        # Replaced as a whole: someone else may be asking at the same time.
        self._memory_bytes = known
        return sum(known.values())
