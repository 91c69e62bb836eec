import pytest
from prometheus_client.core import GaugeMetricFamily

from worker.metrics import pool as module
from worker.metrics.pool import PoolMetrics


class Kernel:
    """A stand-in for the kernel: children and their memory, and the children whose memory was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **memory: int) -> None:
        self.memory = {int(pid[1:]): size for pid, size in memory.items()}
        self.read: list[int] = []
        monkeypatch.setattr(module, "live_children", lambda _: list(self.memory))
        monkeypatch.setattr(module, "memory_bytes", self._memory_bytes)

    def _memory_bytes(self, pid: int) -> int:
        self.read.append(pid)
        return self.memory[pid]


def values(metrics: PoolMetrics) -> list[float]:
    families = list(metrics.collect())
    assert all(isinstance(family, GaugeMetricFamily) for family in families)
    return [family.samples[0].value for family in families]


def test_children_are_counted_and_their_memory_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, p1=100, p2=20, p3=3)

    assert values(PoolMetrics()) == [3, 123]


def test_after_the_first_scrape_each_reads_one_child_and_those_that_are_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, metrics = Kernel(monkeypatch, p1=1, p2=1, p3=1), PoolMetrics()
    values(metrics)
    kernel.read.clear()
    kernel.memory = dict.fromkeys(kernel.memory, 10)

    assert [values(metrics)[1] for _ in range(4)] == [12, 21, 30, 30]
    assert kernel.read == [1, 2, 3, 1]

    del kernel.memory[2]
    kernel.memory |= {4: 10, 5: 10}
    kernel.read.clear()
    assert values(metrics) == [4, 40]
    assert kernel.read == [4, 5]


def test_without_proc_there_is_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: int) -> list[int]:
        raise FileNotFoundError

    monkeypatch.setattr(module, "live_children", nothing)

    assert values(PoolMetrics()) == []


def test_without_children_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch)

    assert values(PoolMetrics()) == [0, 0]
