from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from kombu.transport.redis import Empty

from worker.consumer.blocking_poll import BlockingPoll


class FakeConnection:
    """A connection to Redis that gets a new id and a new socket each time it connects."""

    def __init__(self) -> None:
        self._sock: object = None
        self.connected = 0
        self.sent: list[tuple[str, ...]] = []

    def send_command(self, *command: str) -> None:
        if self._sock is None:
            self.connect()
        self.sent.append(command)

    def read_response(self) -> int:
        return 40 + self.connected

    def connect(self) -> None:
        self._sock = object()
        self.connected += 1


class FakeChannel:
    """A channel with a poll in flight, and a second connection that can end it."""

    def __init__(self) -> None:
        self._in_poll: Any = object()
        self.done: list[Any] = []
        self.broker_is_gone = False

    @contextmanager
    def conn_or_acquire(self) -> Iterator["FakeChannel"]:
        yield self

    def client_unblock(self, connection_id: int) -> None:
        self.done.append(("unblock", connection_id))
        if self.broker_is_gone:
            raise redis.ConnectionError("gone")

    def _brpop_read(self) -> bool:
        self.done.append("read")
        self._in_poll = None
        raise Empty


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


def test_a_connection_is_asked_for_its_id_once(channel: FakeChannel) -> None:
    connection, poll = FakeConnection(), BlockingPoll(channel)

    poll.identify(connection)
    poll.identify(connection)
    poll.unblock()

    assert connection.sent == [("CLIENT", "ID")]
    assert channel.done == [("unblock", 41)]


@pytest.mark.parametrize("connected_again", [False, True])
def test_a_new_socket_has_a_new_id(channel: FakeChannel, connected_again: bool) -> None:
    connection, poll = FakeConnection(), BlockingPoll(channel)
    poll.identify(connection)
    connection._sock = None
    if connected_again:
        connection.connect()

    poll.identify(connection)
    poll.unblock()

    assert channel.done == [("unblock", 42)]


def test_a_poll_that_is_taken_back_is_ended_and_read(channel: FakeChannel) -> None:
    poll = BlockingPoll(channel)
    poll.identify(FakeConnection())

    poll.take_back()

    assert channel.done == [("unblock", 41), "read"]


def test_without_a_poll_in_flight_there_is_nothing_to_end(channel: FakeChannel) -> None:
    channel._in_poll = None
    poll = BlockingPoll(channel)

    poll.unblock()
    poll.take_back()

    assert channel.done == []


def test_without_a_broker_the_poll_is_left_alone(channel: FakeChannel) -> None:
    channel.broker_is_gone = True
    poll = BlockingPoll(channel)
    poll.identify(FakeConnection())

    poll.unblock()

    assert channel.done == [("unblock", 41)]
