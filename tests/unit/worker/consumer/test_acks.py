"""The notes of what is in hand, against kombu's own, on a fake connection that keeps what was written."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state
from fakeredis import FakeRedis
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from worker.consumer.acks import QoS

MESSAGE = SimpleNamespace(_raw={"body": "x"}, delivery_info={"exchange": "", "routing_key": "bulk"})


class FakeConnection:
    """Executes at once and answers when asked; breaks when told to, before or after it has executed."""

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


class Hand:
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

    def noted(self) -> tuple[list[bytes], list[bytes]]:
        return self.redis.hkeys("unacked"), self.redis.zrange("unacked_index", 0, -1)


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_a_message_in_hand_is_noted_as_kombu_notes_it(hand: Hand) -> None:
    hand.qos.append(MESSAGE, "tag")

    theirs = Hand()
    kombu_redis.QoS(theirs.channel).append(MESSAGE, "tag")
    loads = kombu_redis.loads
    assert loads(hand.redis.hget("unacked", "tag")) == loads(theirs.redis.hget("unacked", "tag"))
    assert hand.redis.zscore("unacked_index", "tag") == pytest.approx(
        theirs.redis.zscore("unacked_index", "tag"), abs=60
    )


def test_nobody_waits_for_the_answer(hand: Hand) -> None:
    hand.qos.append(MESSAGE, "tag")

    assert hand.connection.asked == 0
    assert hand.noted() == ([b"tag"], [b"tag"])


def test_an_acknowledged_message_is_forgotten(hand: Hand) -> None:
    hand.qos.append(MESSAGE, "one")
    hand.qos.append(MESSAGE, "two")
    hand.qos.ack("one")

    assert hand.noted() == ([b"two"], [b"two"])
    assert hand.connection.asked == 4, "the answers to earlier writes"


def test_what_a_broken_connection_left_unconfirmed_is_written_again(hand: Hand) -> None:
    hand.qos.append(MESSAGE, "one")
    hand.connection.break_()
    hand.redis.flushall()

    hand.qos.append(MESSAGE, "two")

    assert [sorted(part) for part in hand.noted()] == [[b"one", b"two"]] * 2


def test_a_broker_that_is_gone_is_said_and_nothing_is_forgotten(hand: Hand) -> None:
    hand.qos.append(MESSAGE, "one")
    hand.connection.down = True
    with pytest.raises(redis.ConnectionError):
        hand.qos.ack("one")

    hand.connection.down = False
    hand.connection.break_()
    hand.qos.append(MESSAGE, "two")

    assert sorted(hand.noted()[0]) == [b"one", b"two"]


def test_a_late_answer_counts_as_a_broken_connection(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.qos.append(MESSAGE, "one")

    def late() -> Any:
        raise redis.TimeoutError("late")

    monkeypatch.setattr(hand.connection, "read_response", late)
    with pytest.raises(redis.ConnectionError):
        hand.qos.ack("one")


def test_a_broker_that_refuses_a_note_is_logged(hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    hand.redis.set("unacked", "no hash")

    hand.qos.append(MESSAGE, "one")
    hand.qos.append(MESSAGE, "two")

    assert "was not noted" in caplog.text


def test_what_was_written_comes_before_what_kombu_writes(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    for name in ("reject", "restore_by_tag"):
        monkeypatch.setattr(kombu_redis.QoS, name, lambda *_: asked.append(hand.connection.asked))

    hand.qos.append(MESSAGE, "one")
    hand.qos.reject("one")
    hand.qos.append(MESSAGE, "two")
    hand.qos.restore_by_tag("two")

    assert asked == [2, 4]


def test_times_are_the_brokers_whatever_this_machine_says(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = float(hand.redis.time()[0])
    monkeypatch.setattr("time.time", lambda: 5.0)
    hand.redis.time = lambda: (int(seconds), 0)

    hand.qos.append(MESSAGE, "tag")

    assert hand.redis.zscore("unacked_index", "tag") == pytest.approx(seconds, abs=60)


def test_what_was_in_hand_for_too_long_is_given_back(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = float(hand.redis.time()[0])
    hand.channel.visibility_timeout = 12
    hand.channel.unacked_mutex_key, hand.channel.unacked_mutex_expire = "unacked_mutex", 10
    restored: list[bytes] = []
    monkeypatch.setattr(hand.qos, "restore_by_tag", lambda tag, client: restored.append(tag))
    hand.redis.zadd("unacked_index", {"old": seconds - 20, "new": seconds - 4})

    hand.qos.restore_visible(num=10)
    hand.qos.restore_visible(num=None)
    assert restored == [b"old", b"old"]

    hand.redis.set("unacked_mutex", "another worker")
    hand.qos.restore_visible(num=10)
    assert restored == [b"old", b"old"], "one worker at a time"


@pytest.mark.parametrize(("stopping", "kept"), [(False, ["queued"]), (True, ["queued", "running"])])
def test_of_a_lost_connection_what_runs_is_not_given_back(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, stopping: bool, kept: list[str]
) -> None:
    given_back: list[str] = []
    hand.channel.do_restore = True
    monkeypatch.setattr(hand.qos, "restore_by_tag", lambda tag, client: given_back.append(tag))
    requests = [SimpleNamespace(message=SimpleNamespace(delivery_tag=tag)) for tag in ("running", "of another channel")]
    monkeypatch.setattr(state, "active_requests", requests)
    monkeypatch.setattr(state, "should_stop", 0 if stopping else None)
    for tag in ("queued", "running"):
        virtual.QoS.append(hand.qos, SimpleNamespace(delivery_tag=tag), tag)

    hand.qos.restore_unacked_once()

    assert sorted(given_back) == kept
