import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fakeredis import FakeRedis, FakeServer

from shared.queue import keys
from shared.queue.heartbeat import HEARTBEAT_SECONDS, LIVE_SECONDS, Heartbeat
from worker.consumer.heartbeat import HeartbeatStep


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
    """As much of Celery's consumer as the announcer looks at."""

    def __init__(self, broker: FakeServer, pinned: list[str]) -> None:
        settings = SimpleNamespace(redis_url="redis://", worker_concurrency=3, pinned_models=pinned)
        self.app = SimpleNamespace(headrace_settings=settings)
        self.hostname = "worker1@here"
        self.timer = Timer()
        self.redis: Any = FakeRedis(server=broker)

    def announcements(self) -> dict[str, Heartbeat]:
        return {
            name.decode(): Heartbeat.model_validate_json(said)
            for name, said in self.redis.hgetall(keys.WORKERS).items()
        }


@pytest.fixture
def consumer(broker: FakeServer) -> Consumer:
    return Consumer(broker, [])


NAME = "worker1@here"


def test_it_announces_at_once_and_again_and_again(consumer: Consumer) -> None:
    HeartbeatStep(consumer).start(consumer)

    said = consumer.announcements()[NAME]
    assert (said.slots, said.pinned) == (3, [])
    assert said.at == pytest.approx(time.time(), abs=1)
    [(seconds, announce)] = consumer.timer.repeated
    assert seconds == HEARTBEAT_SECONDS < LIVE_SECONDS / 2, "one may be missed"
    consumer.redis.delete(keys.WORKERS)
    announce()
    # Each is set forward by half of its own round trip: the second may come out a little before the first.
    assert consumer.announcements()[NAME].at == pytest.approx(said.at, abs=1)


def test_it_says_which_models_it_is_pinned_to(broker: FakeServer) -> None:
    consumer = Consumer(broker, ["iris", "wine"])

    HeartbeatStep(consumer).start(consumer)

    assert consumer.announcements()[NAME].pinned == ["iris", "wine"]


def test_a_stopped_worker_takes_its_announcement_back_and_no_other(consumer: Consumer) -> None:
    consumer.redis.hset(keys.WORKERS, "another", Heartbeat(at=0, slots=1).model_dump_json())
    announcer = HeartbeatStep(consumer)
    announcer.start(consumer)

    announcer.stop(consumer)
    announcer.stop(consumer)

    assert set(consumer.announcements()) == {"another"}
    assert consumer.timer.cancelled == 1


def test_a_broker_that_is_away_is_no_reason_to_stop(
    consumer: Consumer, broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker.connected = False
    announcer = HeartbeatStep(consumer)

    with caplog.at_level(logging.WARNING):
        announcer.start(consumer)
    assert caplog.messages == ["not announced: ConnectionError"]

    broker.connected = True
    consumer.timer.repeated[0][1]()
    assert set(consumer.announcements()) == {NAME}

    broker.connected = False
    announcer.stop(consumer)
    assert caplog.messages[-1] == "announcement not taken back: ConnectionError"
