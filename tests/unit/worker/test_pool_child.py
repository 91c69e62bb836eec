from types import SimpleNamespace
from typing import Any

import pytest

from worker import pool_child
from worker.execution.batch_runner import BatchRunner
from worker.execution.chain import ChainBoard
from worker.pool_child import PoolChild


class Parts:
    """The parts of a pool child, which only record what is done with them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.started = 0
        record = self.done.append
        runner: Any = SimpleNamespace(
            start_tracing=lambda: record("trace"),
            stop_tracing=lambda: record("export the spans"),
            warm_up=lambda: record("warm up"),
        )
        refresher = SimpleNamespace(start=lambda: record("refresh"), stop=lambda: record("stop refreshing"))
        monkeypatch.setattr(pool_child, "BatchRunner", lambda *_: runner)
        monkeypatch.setattr(pool_child, "Refresher", lambda name, *_: record(name) or refresher)
        monkeypatch.setattr(pool_child, "forget_predecessor", lambda shard: record(f"forget {shard}"))
        monkeypatch.setattr(pool_child, "threadpool_limits", lambda n: record(f"{n} thread"))
        monkeypatch.setattr(pool_child, "metrics_shard", lambda: "slot0")
        self.runner: BatchRunner = runner

    def child(self, tracing: bool = False) -> PoolChild:
        settings: Any = SimpleNamespace(
            redis_url="redis://",
            lease_seconds=1,
            result_max_bytes=1,
            tracing=tracing,
            worker_max_tasks_per_child=0,
            task_soft_time_limit_seconds=25.0,
        )
        counter = SimpleNamespace(inc=lambda: self.done.append("count"))
        metrics: Any = SimpleNamespace(children_started=counter, mark_loaded=print)
        nothing: Any = None
        return PoolChild("worker@here", settings, nothing, nothing, metrics, ["interactive"], ChainBoard(1))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


def test_a_child_is_warm_before_it_refreshes(parts: Parts) -> None:
    child = parts.child()

    child.start(sender=None, signal=None)

    assert child.runner is parts.runner
    assert parts.done == ["forget slot0", "count", "1 thread", "warm up", "worker@here/slot0", "refresh"]


def test_a_child_that_ends_exports_its_spans_and_leaves_no_live_gauges(parts: Parts) -> None:
    child = parts.child(tracing=True)
    child.start()
    assert parts.done.index("trace") < parts.done.index("warm up")
    parts.done.clear()

    child.stop(sender=None, signal=None)

    assert parts.done == ["stop refreshing", "export the spans", "forget slot0"]


def test_a_child_that_never_started_can_end(parts: Parts) -> None:
    child = parts.child()

    child.stop()

    assert parts.done == ["forget slot0"]
    with pytest.raises(RuntimeError, match="not started"):
        _ = child.runner
