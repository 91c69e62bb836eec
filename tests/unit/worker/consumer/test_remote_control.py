"""Remote control on a Redis in memory: what celery-exporter asks is answered, and everything else is dropped."""

import base64
import json
import logging
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from fakeredis import FakeRedis, FakeServer
from hypothesis import given
from hypothesis import strategies as st
from kombu import Queue
from kombu.transport.virtual import Message

from shared.queue.celery_app import make_celery
from shared.settings import CommonSettings
from tests.support.control_messages import ANSWERED, ASKER, HOSTILE, REPLY_EXCHANGE, asked, enveloped
from tests.support.fuzzing import changed, fuzzed
from worker.consumer.remote_control import (
    PAUSE_SECONDS,
    POLL_SECONDS,
    QUESTIONS_PER_POLL,
    RemoteControl,
    read_question,
)

CHANNEL = "/0.celery.pidbox"
REPLIES = f"{ASKER}.{REPLY_EXCHANGE}"
NAME = "worker@here-1"
BODIES = changed(json.loads(base64.b64decode(json.loads(asked())["body"])))


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


class Control:
    """A remote control that looks for messages when a test says so, and its clock."""

    def __init__(self, broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.redis: Any = FakeRedis(server=broker)
        self.now = 1000.0
        self.cancelled = 0
        self.poll: Any = None
        monkeypatch.setattr("worker.consumer.remote_control.time.monotonic", lambda: self.now)
        queues = [Queue("interactive"), Queue("bulk")]
        app = SimpleNamespace(
            headrace_settings=SimpleNamespace(redis_url="redis://"), conf=SimpleNamespace(task_queues=queues)
        )
        children = [SimpleNamespace(pid=pid) for pid in (7, 8)]
        pool = SimpleNamespace(_pool=SimpleNamespace(_pool=children))
        self.consumer = SimpleNamespace(app=app, hostname=NAME, pool=pool, timer=self)
        self.step = RemoteControl(self.consumer)
        self.step.start(self.consumer)
        self.look()

    def call_repeatedly(self, seconds: float, function: Any) -> Any:
        assert seconds == POLL_SECONDS
        self.poll = function
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def publish(self, message: bytes) -> int:
        """Publish a message, and return how many received it."""
        received: int = self.redis.publish(CHANNEL, message)
        return received

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.poll()

    def replies(self) -> list[Message]:
        channel = SimpleNamespace(decode_body=lambda body, encoding: body)
        return [Message(orjson.loads(each), channel) for each in reversed(self.redis.lrange(REPLIES, 0, -1))]


@pytest.fixture
def control(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Control:
    return Control(broker, monkeypatch)


def test_celerys_own_remote_control_is_off() -> None:
    assert make_celery(CommonSettings()).conf.worker_enable_remote_control is False


def test_the_two_questions_of_the_exporter_are_answered_as_kombu_reads_it(control: Control) -> None:
    ticket = "2f0a6f0e-0000-4000-8000-000000000000"
    for method in ("stats", "active_queues"):
        assert control.publish(asked(method, ticket=ticket)) == 1
    control.look()

    stats, queues = control.replies()
    assert stats.decode() == {NAME: {"pool": {"processes": [7, 8]}}}
    assert queues.decode() == {NAME: [{"name": "interactive"}, {"name": "bulk"}]}
    assert stats.headers["ticket"] == queues.headers["ticket"] == ticket
    assert 0 < control.redis.ttl(REPLIES) <= 10, "also if nobody reads it"


@pytest.mark.parametrize("what", HOSTILE)
def test_anything_else_is_no_question(what: str) -> None:
    assert read_question(HOSTILE[what]) is None


@fuzzed(100)
@given(st.binary(max_size=200) | changed(json.loads(asked())).map(json_bytes) | BODIES.map(json_bytes).map(enveloped))
def test_any_bytes_are_a_question_or_none(message: bytes) -> None:
    question = read_question(message)

    assert question is None or question.method in ANSWERED


def test_what_is_no_question_is_dropped_and_leaves_no_trace(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for message in HOSTILE.values():
            assert control.publish(message) == 1
            control.look()
            control.now += PAUSE_SECONDS + 1 if len(message) > 10_000 else 0
            control.look()

    assert control.redis.keys() == []
    dropped = [message for message in caplog.messages if "dropped a message" in message]
    assert 0 < len(dropped) <= 3, "a line in ten seconds"
    assert "stats" not in caplog.text and "os.system" not in caplog.text
    control.publish(asked())
    control.look()
    assert len(control.replies()) == 1


def test_a_flood_costs_one_look_and_then_a_pause(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10 * QUESTIONS_PER_POLL):
        control.publish(asked())
    control.look(20)

    assert len(control.replies()) == QUESTIONS_PER_POLL
    assert control.publish(asked()) == 0, "nobody listens"
    assert "nothing is answered for 5 s: too many messages" in caplog.text
    control.now += PAUSE_SECONDS
    control.look()
    assert control.publish(asked()) == 1
    control.look()
    assert len(control.replies()) == QUESTIONS_PER_POLL + 1


def test_a_broker_that_is_away_is_no_reason_to_stop(
    control: Control, broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker.connected = False
    control.look(3)
    assert caplog.text.count("nothing is answered") == 1

    broker.connected = True
    control.now += PAUSE_SECONDS
    control.look()
    control.publish(asked())
    control.look()
    assert len(control.replies()) == 1


def test_a_subscription_that_answers_no_pings_is_made_anew(control: Control) -> None:
    subscription: Any = control.step._subscription
    subscription.health_check_response_counter = 100
    control.look()

    assert control.step._subscription is None
    control.now += PAUSE_SECONDS
    control.look()
    assert control.publish(asked()) == 1


def test_a_stopped_worker_listens_no_longer(control: Control) -> None:
    control.step.stop(control.consumer)
    control.step.stop(control.consumer)

    assert control.cancelled == 1
    assert control.publish(asked()) == 0
