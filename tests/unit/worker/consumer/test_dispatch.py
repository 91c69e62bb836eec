from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
import redis

from worker.consumer.dispatch import EVENTS_SECONDS, DispatchStep, write_to_idle_children


class FakeConsumer:
    """The parts of a consumer that the step uses."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.later: list[tuple[float, Any]] = []
        self.cancelled = 0
        self.steps: list[Any] = []
        self.pool = SimpleNamespace(
            flush=None,
            _pool=SimpleNamespace(
                _all_inqueues={1, 2, 3},
                _active_writes={1},
                _busy_workers={2},
                _active_writers=set(),
                _cache={},
                _flush_writer=lambda process, writer: self.done.append(("written", process, *writer)),
                flush=lambda: self.done.append("dropped"),
            ),
        )
        self.hub = SimpleNamespace(consolidate_callback=lambda fds: self.done.append(("write", fds)))
        self.event_dispatcher = SimpleNamespace(
            flush=lambda: self.done.append("flush"), on_send_buffered=None, buffer_limit=24
        )
        self.timer = SimpleNamespace(call_after=self.call_after)
        self.on_task_request = lambda request: self.done.append(("reserve", request))

    def call_after(self, seconds: float, function: Any) -> Any:
        self.later.append((seconds, function))
        return SimpleNamespace(cancel=lambda: setattr(self, "cancelled", self.cancelled + 1))


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


def test_a_task_is_written_at_once_to_a_child_that_is_idle(consumer: FakeConsumer) -> None:
    DispatchStep(consumer)

    consumer.on_task_request("request")  # type: ignore[no-untyped-call]

    assert consumer.done == [("reserve", "request"), ("write", [3])]


def test_with_no_idle_child_the_event_loop_writes_later(consumer: FakeConsumer) -> None:
    consumer.pool._pool._busy_workers = {2, 3}

    write_to_idle_children(consumer.hub, consumer.pool._pool)

    assert consumer.done == []


def test_what_a_child_has_read_in_part_is_written_to_its_end_before_anything_is_dropped(consumer: FakeConsumer) -> None:
    def write(task: str) -> Iterator[str]:
        yield "first half"
        yield task

    begun, new, done = write("begun"), write("new"), write("done")
    next(begun), next(done)
    pool = consumer.pool._pool
    pool._active_writers = {begun, new}
    for number, writer in enumerate((begun, new, done)):
        pool._cache[number] = SimpleNamespace(_writer=ref(writer), _write_to=number)
    pool._cache["never scheduled"] = SimpleNamespace()
    DispatchStep(consumer).start(consumer)

    consumer.pool.flush()

    assert consumer.done == [("written", 0, "begun"), "dropped"]


def test_events_are_published_together_and_later(consumer: FakeConsumer) -> None:
    DispatchStep(consumer).start(consumer)
    send: Any = consumer.event_dispatcher.on_send_buffered
    for _ in range(3):
        send()

    [(seconds, publish)] = consumer.later
    assert (seconds, consumer.done) == (EVENTS_SECONDS, [])

    publish()
    send()

    assert consumer.done == ["flush"]
    assert len(consumer.later) == 2


def test_a_stopping_worker_publishes_what_it_has(consumer: FakeConsumer) -> None:
    step = DispatchStep(consumer)
    step.start(consumer)
    consumer.event_dispatcher.on_send_buffered()

    step.stop(consumer)
    step.stop(consumer)

    assert (consumer.done, consumer.cancelled) == (["flush"], 1)


def test_without_a_broker_it_stops_all_the_same(consumer: FakeConsumer) -> None:
    def fail() -> None:
        raise redis.ConnectionError("gone")

    consumer.event_dispatcher.flush = fail
    step = DispatchStep(consumer)
    step.start(consumer)
    consumer.event_dispatcher.on_send_buffered()

    step.stop(consumer)
