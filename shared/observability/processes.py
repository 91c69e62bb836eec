"""Processes as the kernel sees them. Reads /proc and nothing else; where there is none (macOS), nothing is told."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

PROC = Path("/proc")

#: These are added up; of the others the greatest stays.
_ADDED_UP = ("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_cpu_seconds")


def live_children(pid: int) -> list[int]:
    """Process ids of the children that a process's main thread has forked, without those that are dead.

    Raises:
        OSError: if there is no such process, or no /proc.
    """
    children = (PROC / f"{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, children) if _stat(child)[:1] not in ([], ["Z"])]


def memory_bytes(pid: int) -> int:
    """The memory of a process, a page that n processes share as an nth of it (PSS); 0 if it is gone.

    Where that can't be read, shared pages count in full (RSS).
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
    """The fields of /proc/<pid>/stat from the state on; none if the process is gone."""
    try:
        return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class ProcessesAsOne(Collector):
    """`process_*` of a process and its children, as if they were one.

    Any of several gateway processes may be asked: their own figures would jump up and down.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def collect(self) -> Iterator[Metric]:
        """The metrics of prometheus-client's own collector; the start is that of the parent."""
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
            # What its children took that are dead: else the sum would fall with each of them.
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
