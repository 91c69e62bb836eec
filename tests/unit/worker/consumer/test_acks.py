"""The records of unacknowledged messages, compared with kombu's own, on a fake connection that keeps all writes."""

import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state
from fakeredis import FakeRedis
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from gateway.broker.celery_message import queue_entry
from shared.queue import keys
from shared.queue.celery_app import make_celery
from shared.queue.contract import RunJobsMessage
from shared.queue.dead_letters import read
from shared.settings import CommonSettings
from tests.support.processes import wait_for
from worker.consumer.acks import QoS

MESSAGE = SimpleNamespace(_raw={"body": "x"}, delivery_info={"exchange": "", "routing_key": "bulk"})


class FakeConnection:
    """A connection that executes at once and answers when asked; a test breaks it before or after the execution."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.answers: list[Any] = []
        self.down = False
        self.broken = False
        self.asked = 0

    def pack_commands(self, commands: Any) -> Any:
        return commands

    def send_packed_command(self, commands: Any, check_health: bool) -> None:
        if self.down:
            raise redis.ConnectionError("down")
        self.broken = False
        for command in commands:
            try:
                self.answers.append(self.server.execute_command(*command))
            except redis.ResponseError as error:
                self.answers.append(error)

    def read_response(self) -> Any:
        self.asked += 1
        if self.broken or self.down:
            raise redis.ConnectionError("broken")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def break_(self) -> None:
        self.broken = True
        self.answers.clear()


class Holder:
    """A channel's QoS, its connection and its broker."""

    def __init__(self) -> None:
        self.redis: Any = FakeRedis()
        self.connection = FakeConnection(self.redis)
        self.channel: Any = SimpleNamespace(
            unacked_key="unacked",
            unacked_index_key="unacked_index",
            do_restore=False,
            pool=SimpleNamespace(get_connection=lambda: self.connection),
            conn_or_acquire=lambda client=None: nullcontext(self.redis),
        )
        self.qos = QoS(self.channel)

    def recorded(self) -> tuple[list[bytes], list[bytes]]:
        return self.redis.hkeys("unacked"), self.redis.zrange("unacked_index", 0, -1)


@pytest.fixture
def holder() -> Holder:
    return Holder()


def test_a_message_is_recorded_as_kombu_records_it(holder: Holder) -> None:
    holder.qos.append(MESSAGE, "tag")

    theirs = Holder()
    kombu_redis.QoS(theirs.channel).append(MESSAGE, "tag")
    loads = kombu_redis.loads
    assert loads(holder.redis.hget("unacked", "tag")) == loads(theirs.redis.hget("unacked", "tag"))
    assert holder.redis.zscore("unacked_index", "tag") == pytest.approx(
        theirs.redis.zscore("unacked_index", "tag"), abs=60
    )


def test_nobody_waits_for_the_answer(holder: Holder) -> None:
    holder.qos.append(MESSAGE, "tag")

    assert holder.connection.asked == 0
    assert holder.recorded() == ([b"tag"], [b"tag"])


def test_an_acknowledged_message_is_forgotten(holder: Holder) -> None:
    holder.qos.append(MESSAGE, "one")
    holder.qos.append(MESSAGE, "two")
    holder.qos.ack("one")

    assert holder.recorded() == ([b"two"], [b"two"])
    assert holder.connection.asked == 4, "the answers to earlier writes"


def test_what_a_broken_connection_left_unconfirmed_is_written_again(holder: Holder) -> None:
    holder.qos.append(MESSAGE, "one")
    holder.connection.break_()
    holder.redis.flushall()

    holder.qos.append(MESSAGE, "two")

    assert [sorted(part) for part in holder.recorded()] == [[b"one", b"two"]] * 2


def test_a_broker_that_is_gone_is_an_error_and_nothing_is_forgotten(holder: Holder) -> None:
    holder.qos.append(MESSAGE, "one")
    holder.connection.down = True
    with pytest.raises(redis.ConnectionError):
        holder.qos.ack("one")

    holder.connection.down = False
    holder.connection.break_()
    holder.qos.append(MESSAGE, "two")

    assert sorted(holder.recorded()[0]) == [b"one", b"two"]


def test_a_late_answer_counts_as_a_broken_connection(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    holder.qos.append(MESSAGE, "one")

    def late() -> Any:
        raise redis.TimeoutError("late")

    monkeypatch.setattr(holder.connection, "read_response", late)
    with pytest.raises(redis.ConnectionError):
        holder.qos.ack("one")


def test_a_broker_that_refuses_a_record_is_logged(holder: Holder, caplog: pytest.LogCaptureFixture) -> None:
    holder.redis.set("unacked", "no hash")

    holder.qos.append(MESSAGE, "one")
    holder.qos.append(MESSAGE, "two")

    assert "refused the record" in caplog.text


def test_pending_writes_come_before_those_of_kombu(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    for name in ("reject", "restore_by_tag"):
        monkeypatch.setattr(kombu_redis.QoS, name, lambda *_: asked.append(holder.connection.asked))

    holder.qos.append(MESSAGE, "one")
    holder.qos.reject("one")
    holder.qos.append(MESSAGE, "two")
    holder.qos.restore_by_tag("two")

    assert asked == [2, 4]


def test_times_are_the_brokers_whatever_this_machine_says(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = float(holder.redis.time()[0])
    monkeypatch.setattr("time.time", lambda: 5.0)
    holder.redis.time = lambda: (int(seconds), 0)

    holder.qos.append(MESSAGE, "tag")

    assert holder.redis.zscore("unacked_index", "tag") == pytest.approx(seconds, abs=60)


def test_messages_that_were_held_for_too_long_are_given_back(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = float(holder.redis.time()[0])
    holder.channel.visibility_timeout = 12
    holder.channel.unacked_mutex_key, holder.channel.unacked_mutex_expire = "unacked_mutex", 10
    restored: list[bytes] = []
    monkeypatch.setattr(holder.qos, "restore_by_tag", lambda tag, client: restored.append(tag))
    holder.redis.zadd("unacked_index", {"old": seconds - 20, "new": seconds - 4})

    holder.qos.restore_visible(num=10)
    holder.qos.restore_visible(num=None)
    assert restored == [b"old", b"old"]

    holder.redis.set("unacked_mutex", "another worker")
    holder.qos.restore_visible(num=10)
    assert restored == [b"old", b"old"], "one worker at a time"


@pytest.mark.parametrize(("stopping", "kept"), [(False, ["queued"]), (True, ["queued", "running"])])
def test_of_a_lost_connection_running_messages_are_not_given_back(
    holder: Holder, monkeypatch: pytest.MonkeyPatch, stopping: bool, kept: list[str]
) -> None:
    given_back: list[str] = []
    holder.channel.do_restore = True
    monkeypatch.setattr(holder.qos, "restore_by_tag", lambda tag, client: given_back.append(tag))
    requests = [SimpleNamespace(message=SimpleNamespace(delivery_tag=tag)) for tag in ("running", "of another channel")]
    monkeypatch.setattr(state, "active_requests", requests)
    monkeypatch.setattr(state, "should_stop", 0 if stopping else None)
    for tag in ("queued", "running"):
        virtual.QoS.append(holder.qos, SimpleNamespace(delivery_tag=tag), tag)

    holder.qos.restore_unacked_once()

    assert sorted(given_back) == kept


def sweeping(holder: Holder) -> float:
    """Let a holder sweep, and return the broker's time."""
    holder.channel.visibility_timeout = 12
    holder.channel.unacked_mutex_key, holder.channel.unacked_mutex_expire = "unacked_mutex", 10
    return float(holder.redis.time()[0])


def record_of(entry: Any, exchange: Any = "", queue: Any = "bulk") -> str:
    return json.dumps([entry, exchange, queue])


ENTRY: Any = json.loads(queue_entry(make_celery(CommonSettings()), RunJobsMessage(jobs=["a"]), "", 1.0))


@pytest.mark.parametrize(
    "record",
    [
        *("text", "[1]", "[1,2,3]", "null", "5", "{}", "[{},[],{}]", None),
        record_of(None),
        record_of([ENTRY]),
        record_of("text"),
        record_of({**ENTRY, "headers": None}),
        record_of({**ENTRY, "body": '[["x"],{},{"chain":[1]}]'}),
        record_of(ENTRY, "another"),
        record_of(ENTRY, "", "headrace:jobs:open"),
        record_of(ENTRY, "", None),
    ],
)
def test_a_damaged_record_is_a_dead_letter_and_stops_no_other(
    holder: Holder, caplog: pytest.LogCaptureFixture, record: str | None
) -> None:
    seconds = sweeping(holder)
    holder.channel._do_restore_message = lambda message, *_: message["headers"]
    holder.redis.hset("unacked", "good", record_of(ENTRY))
    if record is not None:
        holder.redis.hset("unacked", "bad", record)
    holder.redis.zadd("unacked_index", {"bad": seconds - 30, "good": seconds - 20})

    holder.qos.restore_visible()

    assert holder.recorded() == ([], [])
    letters = [read(letter) for letter in holder.redis.lrange(keys.DEAD_LETTERS, 0, -1)]
    expected = [] if record is None else [("", record.encode())]
    assert [(letter.queue, letter.content) for letter in letters if letter] == expected
    assert ("damaged" in caplog.text) == (record is not None)


def test_records_from_before_the_clock_was_set_back_count_from_now_on(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = sweeping(holder)
    holder.redis.zadd("unacked_index", {"before": seconds + 3600, "now": seconds + 1})

    holder.qos.restore_visible()

    assert holder.redis.zscore("unacked_index", "before") == pytest.approx(seconds, abs=60)
    assert holder.redis.zscore("unacked_index", "now") == seconds + 1


def test_a_clock_that_is_set_is_noticed_by_the_next_sweep(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise this worker would take the messages of the others for abandoned, and have them run twice."""
    seconds = sweeping(holder)
    restored: list[bytes] = []
    monkeypatch.setattr(holder.qos, "restore_by_tag", lambda tag, client: restored.append(tag))
    holder.qos.append(MESSAGE, "own")
    holder.redis.time = lambda: (int(seconds) - 3600, 0)
    holder.redis.zadd("unacked_index", {"another's": seconds - 3600})

    holder.qos.restore_visible()

    assert restored == []
    holder.qos.append(MESSAGE, "later")
    assert holder.redis.zscore("unacked_index", "later") == pytest.approx(seconds - 3600, abs=60)


@pytest.mark.parametrize("key", ["unacked", "unacked_index"])
def test_keys_of_a_wrong_type_are_replaced(holder: Holder, caplog: pytest.LogCaptureFixture, key: str) -> None:
    sweeping(holder)
    holder.redis.set(key, "no record")

    holder.qos.restore_visible()
    wait_for("it has expired", lambda: not holder.redis.exists(key))
    holder.qos.append(MESSAGE, "tag")

    assert holder.recorded() == ([b"tag"], [b"tag"])
    assert f"{key} is of a wrong type" in caplog.text
