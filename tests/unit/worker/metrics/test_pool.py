import pytest
from prometheus_client.core import GaugeMetricFamily

from worker.metrics import pool as module
from worker.metrics.pool import PoolMetrics


class Kernel:
    """Children and their memory, and who was looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **memory: int) -> None:
        self.memory = {int(pid[1:]): size for pid, size in memory.items()}
        self.looked_at: list[int] = []
        monkeypatch.setattr(module, "live_children", lambda _: list(self.memory))
        monkeypatch.setattr(module, "memory_bytes", self._memory_bytes)

    def _memory_bytes(self, pid: int) -> int:
        self.looked_at.append(pid)
        return self.memory[pid]


def told(metrics: PoolMetrics) -> list[float]:
    families = list(metrics.collect())
    assert all(isinstance(family, GaugeMetricFamily) for family in families)
    return [family.samples[0].value for family in families]


def test_children_are_counted_and_their_memory_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, p1=100, p2=20, p3=3)

    assert told(PoolMetrics()) == [3, 123]


def test_after_the_first_look_one_child_is_looked_at_each_time_and_those_that_are_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, metrics = Kernel(monkeypatch, p1=1, p2=1, p3=1), PoolMetrics()
    told(metrics)
    kernel.looked_at.clear()
    kernel.memory = dict.fromkeys(kernel.memory, 10)

    assert [told(metrics)[1] for _ in range(4)] == [12, 21, 30, 30]
    assert kernel.looked_at == [1, 2, 3, 1]

    del kernel.memory[2]
    kernel.memory |= {4: 10, 5: 10}
    kernel.looked_at.clear()
    assert told(metrics) == [4, 40]
    assert kernel.looked_at == [4, 5]


def test_where_there_is_no_proc_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: int) -> list[int]:
        raise FileNotFoundError

    monkeypatch.setattr(module, "live_children", nothing)

    assert told(PoolMetrics()) == []


def test_without_children_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch)

    assert told(PoolMetrics()) == [0, 0]
