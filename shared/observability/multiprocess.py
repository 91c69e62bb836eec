"""Metrics of several processes as one: prometheus-client's multiprocess files, named by shard instead of process id.

A metrics shard is the name of a process's place among its siblings. A new process takes over the shard of one that
ended and counts on in its files, so that the number of files stays the number of places, however many processes start.
`PROMETHEUS_MULTIPROC_DIR` must be set before Python starts.
"""

import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, multiprocess, values

from shared.observability.multiprocess_files import CountFile
from shared.observability.multiprocess_sums import Sums


def name_files_by(metrics_shard: Callable[[], str]) -> None:
    """Name the files of this process by its shard, and survive a full disk; call it before a metric is defined.

    The name of a shard has no underscore: file names are split there.
    """
    values.MmapedDict = CountFile  # type: ignore[attr-defined, assignment]
    values.ValueClass = values.MultiProcessValue(metrics_shard)  # type: ignore[no-untyped-call]


def forget_predecessor(metrics_shard: str) -> None:
    """Delete the live gauges of the process that had this shard before, which may have been killed in mid-work."""
    multiprocess.mark_process_dead(metrics_shard)  # type: ignore[no-untyped-call]


def add_up_files(registry: CollectorRegistry) -> None:
    """Register the sums over all processes, in a registry without the metrics themselves: each would be there twice."""
    registry.register(Sums(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
