from types import SimpleNamespace
from typing import Any

import kombu
import pytest
import redis
from celery.worker import state
from kombu.transport import redis as kombu_redis
from kombu.transport.redis import Empty

from worker.consumer.lanes import LaneCycle
from worker.consumer.transport import Amqp, Channel
from worker.consumer.watchdog import Pulse


def test_a_lost_broker_is_looked_for_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(kombu.Connection, "ensure_connection", lambda self, *args, **options: asked.append(options))

    Amqp.Connection("redis://").ensure_connection(print, None, interval_start=3)

    assert asked == [{"interval_start": 3, "interval_step": 0.2, "interval_max": 1.0}]


class FakePoll:
    """A blocking poll that notes what the channel has it do."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def identify(self, connection: Any) -> None:
        self.done.append(f"identify {connection}")

    def unblock(self) -> None:
        self.done.append("unblock")

    def take_back(self) -> None:
        self.done.append("take back")


def channel_of(monkeypatch: pytest.MonkeyPatch, *queues: str) -> tuple[Channel, list[str]]:
    """A channel that consumes queues, and the list of what its blocking poll was asked to do."""
    channel = Channel.__new__(Channel)
    channel._active_queues, channel.active_fanout_queues = [*queues], set()
    channel._queue_cycle = LaneCycle(1)
    channel._queue_cycle.update(queues)
    channel._blocking_poll = poll = FakePoll()  # type: ignore[assignment]
    monkeypatch.setattr(kombu_redis.Channel, "_basic_cancel", lambda self, tag: self._active_queues.remove(tag))
    return channel, poll.done


def test_a_connection_is_identified_before_it_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, done = channel_of(monkeypatch, "interactive")
    channel.__dict__["client"] = SimpleNamespace(connection="connection")
    monkeypatch.setattr(kombu_redis.Channel, "_brpop_start", lambda self, timeout: done.append(f"poll {timeout}"))

    channel._brpop_start(1.0)

    assert done == ["identify connection", "poll 1.0"]


@pytest.mark.parametrize("method", ["basic_ack", "basic_reject"])
def test_a_poll_starts_again_once_bulk_has_room(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    channel, done = channel_of(monkeypatch, "interactive", "bulk")
    monkeypatch.setattr(kombu_redis.Channel, method, lambda self, *_: done.append(method))
    channel._queue_cycle.take("bulk", "b")
    channel._queue_cycle.take("interactive", "i")

    getattr(channel, method)("i")
    assert done == [method]
    getattr(channel, method)("b")
    assert done == [method, method, "unblock"]


def test_a_worker_that_stops_takes_its_poll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis would give it an entry that nobody looks at until its children have ended."""
    channel, done = channel_of(monkeypatch, "interactive", "bulk")
    monkeypatch.setattr(state, "should_stop", 0)

    channel._basic_cancel("bulk")
    assert done == [], "it still consumes the other queue"
    channel._basic_cancel("interactive")
    assert done == ["take back"]


def test_a_worker_that_only_lost_its_connection_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, done = channel_of(monkeypatch, "interactive")

    channel._basic_cancel("interactive")

    assert done == []


def test_every_answered_poll_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, _ = channel_of(monkeypatch, "interactive")
    answers: list[Any] = [None, redis.ConnectionError()]

    def answer(*_: Any) -> Any:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    channel.pulse, channel.connection_errors = Pulse(1), (redis.ConnectionError,)
    connection = SimpleNamespace(disconnect=lambda: None)
    channel.__dict__["client"] = SimpleNamespace(connection=connection, parse_response=answer)
    monkeypatch.setattr(channel, "_flush_brpop_reauth", lambda: None)

    with pytest.raises(Empty):
        channel._brpop_read()
    assert channel.pulse.beats == 1, "nothing for a second is an answer too"
    with pytest.raises(redis.ConnectionError):
        channel._brpop_read()
    assert channel.pulse.beats == 1
