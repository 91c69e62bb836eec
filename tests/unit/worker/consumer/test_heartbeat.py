import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from fakeredis import FakeRedis, FakeServer

from shared.queue import keys
from shared.queue.heartbeat import HEARTBEAT_SECONDS, LIVE_SECONDS, Heartbeat
from worker.consumer.heartbeat import HeartbeatStep

LIMIT_SECONDS = 30.0


class Request(NamedTuple):
    """A task that the worker holds."""

    id: str
    lane: str

    @property
    def delivery_info(self) -> dict[str, str]:
        return {"routing_key": self.lane}


class Timer:
    """The consumer's timer; a test is its clock."""

    def __init__(self) -> None:
        self.repeated: list[tuple[float, Callable[[], None]]] = []
        self.cancelled = 0

    def call_repeatedly(self, seconds: float, function: Callable[[], None]) -> Any:
        self.repeated.append((seconds, function))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


class Consumer:
    """The parts of Celery's consumer that the heartbeat uses."""

    def __init__(self, broker: FakeServer, pinned: list[str]) -> None:
        settings = SimpleNamespace(
            redis_url="redis://", worker_concurrency=3, pinned_models=pinned, lease_seconds=LIMIT_SECONDS
        )
        self.app = SimpleNamespace(headrace_settings=settings)
        self.hostname = "worker1@here"
        self.timer = Timer()
        self.redis: Any = FakeRedis(server=broker)

    def heartbeats(self) -> dict[str, Heartbeat]:
        return {
            name.decode(): Heartbeat.model_validate_json(text)
            for name, text in self.redis.hgetall(keys.WORKERS).items()
        }


@pytest.fixture
def consumer(broker: FakeServer) -> Consumer:
    return Consumer(broker, [])


NAME = "worker1@here"


def test_a_heartbeat_tells_how_many_slots_have_work_and_how_many_have_it_for_too_long(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("worker.consumer.heartbeat.time.monotonic", lambda: now)
    held: set[Request] = set()
    monkeypatch.setattr("worker.consumer.heartbeat.state.reserved_requests", held)
    HeartbeatStep(consumer).start(consumer)
    [(_, send)] = consumer.timer.repeated
    seen = []
    for at, tasks in ((0.0, "a"), (20.0, "ab"), (31.0, "ab"), (32.0, "b"), (33.0, "")):
        now = 1000.0 + at
        held.clear()
        held.update(Request(task, "bulk.iris" if task == "b" else "interactive") for task in tasks)
        send()
        beat = consumer.heartbeats()[NAME]
        seen.append((beat.busy, beat.overdue, beat.bulk))

    assert seen == [(1, 0, 0), (2, 0, 1), (1, 1, 1), (1, 0, 1), (0, 0, 0)]


def test_a_heartbeat_is_sent_at_once_and_again_and_again(consumer: Consumer) -> None:
    HeartbeatStep(consumer).start(consumer)

    first = consumer.heartbeats()[NAME]
    assert (first.slots, first.pinned) == (3, [])
    assert first.at == pytest.approx(time.time(), abs=1)
    [(seconds, send)] = consumer.timer.repeated
    assert seconds == HEARTBEAT_SECONDS < LIVE_SECONDS / 2, "one may be missed"
    consumer.redis.delete(keys.WORKERS)
    send()
    # Half of its own round trip is added to each: the second time may be a little before the first.
    assert consumer.heartbeats()[NAME].at == pytest.approx(first.at, abs=1)


def test_a_heartbeat_names_the_models_that_the_worker_is_pinned_to(broker: FakeServer) -> None:
    consumer = Consumer(broker, ["iris", "wine"])

    HeartbeatStep(consumer).start(consumer)

    assert consumer.heartbeats()[NAME].pinned == ["iris", "wine"]


def test_a_stopped_worker_removes_its_heartbeat_and_no_other(consumer: Consumer) -> None:
    consumer.redis.hset(keys.WORKERS, "another", Heartbeat(at=0, slots=1).model_dump_json())
    step = HeartbeatStep(consumer)
    step.start(consumer)

    step.stop(consumer)
    step.stop(consumer)

    assert set(consumer.heartbeats()) == {"another"}
    assert consumer.timer.cancelled == 1


def test_a_broker_that_is_away_is_no_reason_to_stop(
    consumer: Consumer, broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker.connected = False
    step = HeartbeatStep(consumer)

    with caplog.at_level(logging.WARNING):
        step.start(consumer)
    assert caplog.messages == ["heartbeat not sent: ConnectionError"]

    broker.connected = True
    consumer.timer.repeated[0][1]()
    assert set(consumer.heartbeats()) == {NAME}

    broker.connected = False
    step.stop(consumer)
    assert caplog.messages[-1] == "heartbeat not removed: ConnectionError"
