"""The command with which a worker waits for queue entries."""

from contextlib import suppress
from typing import Any

import redis
from kombu.transport.redis import Empty


class BlockingPoll:
    """The BRPOP that a channel has in flight. Another connection can end it by its connection's id."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._socket: Any = None
        self._connection_id = 0

    def identify(self, connection: Any) -> None:
        """Ask Redis for the id of a connection, before a BRPOP is sent on it; a connection is asked once."""
        if connection._sock is None or self._socket is not connection._sock:
            # This connects, if there is no socket yet.
            connection.send_command("CLIENT", "ID")
            self._socket, self._connection_id = connection._sock, connection.read_response()

    def unblock(self) -> None:
        """End the BRPOP in flight, if there is one; Redis answers it at once. Without a broker nothing happens."""
        if self._channel._in_poll:
            with suppress(redis.RedisError), self._channel.conn_or_acquire() as client:
                client.client_unblock(self._connection_id)

    def take_back(self) -> None:
        """End the BRPOP in flight, if there is one, and read its answer."""
        if self._channel._in_poll:
            self.unblock()
            with suppress(Empty):
                self._channel._brpop_read()
