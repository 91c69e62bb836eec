"""Memory, CPU time and children of processes, read from /proc; where there is none (macOS), no metrics."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

PROC = Path("/proc")

#: Metrics of a family of processes that are sums; the others are maxima.
_ADDED_UP = ("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_cpu_seconds")


def live_children(pid: int) -> list[int]:
    """Return the ids of the live processes that a process's main thread has forked.

    Raises:
        OSError: if there is no such process, or no /proc.
    """
    children = (PROC / f"{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, children) if _stat(child)[:1] not in ([], ["Z"])]


def memory_bytes(pid: int) -> int:
    """Return the memory of a process in bytes, 0 if it is gone.

    A page that n processes share counts as 1/n (PSS). Where that can't be read, it counts in full (RSS).
    """
    try:
        with (PROC / f"{pid}/smaps_rollup").open() as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    stat = _stat(pid)
    return int(stat[21]) * os.sysconf("SC_PAGESIZE") if stat else 0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on; empty if the process is gone."""
    try:
        return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class ProcessesAsOne(Collector):
    """Collector of the `process_*` metrics of a process and its children, as if they were one process.

    A scrape reaches any one of several gateway processes: with figures of that one alone, series would jump.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of prometheus-client's ProcessCollector; the start time is the parent's."""
        merged = {metric.name: metric for metric in _metrics_of(self._parent)}
        try:
            children = live_children(self._parent)
        except OSError:
            children = []
        for child in children:
            for metric in _metrics_of(child):
                if metric.name in merged and metric.name != "process_start_time_seconds":
                    _merge(merged[metric.name], metric)
        stat = _stat(self._parent)
        if stat and "process_cpu_seconds" in merged:
            # CPU time of dead children; without it the sum would fall whenever one ends.
            _add(merged["process_cpu_seconds"], (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK"))
        return iter(merged.values())


def _metrics_of(pid: int) -> list[Metric]:
    return list(ProcessCollector(pid=partial(str, pid), registry=None).collect())


def _merge(metric: Metric, other: Metric) -> None:
    value: float = other.samples[0].value
    if metric.name in _ADDED_UP:
        _add(metric, value)
    else:
        metric.samples = [max(metric.samples[0], other.samples[0], key=lambda sample: sample.value)]


def _add(metric: Metric, value: float) -> None:
    sample = metric.samples[0]
    metric.samples = [sample._replace(value=sample.value + value)]
