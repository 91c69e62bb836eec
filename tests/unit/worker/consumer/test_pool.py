import os
import pickle
import select
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from billiard import einfo
from celery import Celery
from celery.app.trace import build_tracer
from celery.utils.serialization import get_pickled_exception

from worker.consumer.pool import MAINTAIN_SECONDS, PoolMonitor, keep_failures_small

PIPE_BYTES = 65_536


def test_dead_children_are_looked_for_while_the_worker_consumes() -> None:
    calls: list[Any] = []
    entry = SimpleNamespace(cancel=lambda: calls.append("cancelled"))

    def call_repeatedly(*what: Any) -> Any:
        calls.append(what)
        return entry

    timer = SimpleNamespace(call_repeatedly=call_repeatedly)
    consumer = SimpleNamespace(timer=timer, pool=SimpleNamespace(_pool=SimpleNamespace(maintain_pool=print, _pool=[])))
    monitor = PoolMonitor(consumer)

    monitor.start(consumer)
    assert calls == [(MAINTAIN_SECONDS, print)]
    monitor.stop(consumer)
    monitor.stop(consumer)
    assert calls[1:] == ["cancelled"]


def test_a_child_that_was_seen_to_die_can_be_registered_again() -> None:
    alive = SimpleNamespace(_sentinel_poll=17)
    new = SimpleNamespace()
    dead = SimpleNamespace(_sentinel_poll=None)
    pool = SimpleNamespace(maintain_pool=print, _pool=[alive, new, dead])
    timer = SimpleNamespace(call_repeatedly=lambda *_: None)

    consumer = SimpleNamespace(timer=timer, pool=SimpleNamespace(_pool=pool))
    PoolMonitor(consumer).start(consumer)

    assert alive._sentinel_poll == 17
    assert not hasattr(new, "_sentinel_poll")
    assert dead._sentinel_poll is not None
    readable, _, _ = select.select([dead._sentinel_poll], [], [], 0)
    assert readable == [dead._sentinel_poll], "the event loop sees its end at once"
    os.close(dead._sentinel_poll)


def test_the_report_of_a_failed_task_fits_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(einfo, "Traceback", einfo.Traceback)
    app = Celery(set_as_current=False)

    @app.task(name="fail", shared=False)  # type: ignore[untyped-decorator]
    def fail() -> None:
        # Nothing listens on that port: redis-py fails some twenty frames down.
        redis.Redis(port=1).register_script("return 1")()

    def report() -> tuple[Any, int]:
        failure = build_tracer("fail", fail, app=app)("id", (), {}, {})[0]
        return failure, len(pickle.dumps(failure))

    assert report()[1] > PIPE_BYTES / 2, "billiard's own report is small now: the patch can go"
    keep_failures_small()
    failure, n_bytes = report()

    # The report of another failed task may still be in the pipe, unread.
    assert n_bytes < PIPE_BYTES / 3
    again = pickle.loads(pickle.dumps(failure))
    assert type(get_pickled_exception(again.exception)).__name__ == "ConnectionError"
    assert "redis" in again.traceback
    assert again.exc_info[0] is redis.ConnectionError
