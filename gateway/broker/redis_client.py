"""The gateway's connections to Redis: they fail soon, and in one way."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost

COMMAND_SECONDS = 1.0
"""How long a command to Redis may take before its caller gets 503."""

BLOCKING_READ_SECONDS = 3.0
"""The same for connections that wait for something, at most a second at a time."""

Answer = TypeVar("Answer")


class _Closed:
    """Writing to a closed connection is a lost connection, for which uvloop has a RuntimeError."""

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise Lost(str(error)) from error


class _Connection(_Closed, Connection):
    pass


class _TlsConnection(_Closed, SSLConnection):
    pass


def connect(redis_url: str, timeout_seconds: float) -> Redis:
    """A client that fails fast: redis-py's own defaults take a minute on a Redis that hangs."""
    pool = ConnectionPool.from_url(
        redis_url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        # One new try at once: a pooled connection may have died while it was idle.
        retry=Retry(NoBackoff(), 1),
    )
    # The URL says which of redis-py's two it is.
    pool.connection_class = _TlsConnection if issubclass(pool.connection_class, SSLConnection) else _Connection
    return Redis.from_pool(pool)


async def soon(answer: Awaitable[Answer]) -> Answer:
    """The answer to a command, within COMMAND_SECONDS in all.

    The timeouts of a connection hold for each step: to connect, to say hello, to write, to read, and all that again.

    Raises:
        asyncio.TimeoutError: if it takes longer. The command may have been executed.
    """
    return await asyncio.wait_for(answer, COMMAND_SECONDS)
