"""Several processes that count as one: prometheus-client's multiprocess files, named by slot instead of process id.

Processes come and go, and no more files stay behind than there are slots: who takes a slot counts on where the process
before it ended. `PROMETHEUS_MULTIPROC_DIR` must have been set before Python started.
"""

import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, multiprocess, values

from shared.observability.multiprocess_sums import Sums


def name_files_by(slot: Callable[[], str]) -> None:
    """Call before the first metric is made; no underscore in a slot's name, since file names are split there."""
    values.ValueClass = values.MultiProcessValue(slot)  # type: ignore[no-untyped-call]


def forget_predecessor(slot: str) -> None:
    """Drop the live gauges of the process that had this slot before; it may have been killed in the middle of work."""
    multiprocess.mark_process_dead(slot)  # type: ignore[no-untyped-call]


def add_up_files(registry: CollectorRegistry) -> None:
    """Let a registry show what all processes counted; beside the metrics themselves, each would be there twice."""
    registry.register(Sums(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
