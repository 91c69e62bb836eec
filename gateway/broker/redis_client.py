"""Redis clients that fail within seconds, and with redis-py's exceptions only."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

COMMAND_SECONDS = 1.0
"""Time that a command to Redis may take before the caller gets 503."""

BLOCKING_READ_SECONDS = 3.0
"""Timeout of connections for blocking reads, which block for a second at most."""

Answer = TypeVar("Answer")


class _ClosedIsLost:
    """Mixin that turns uvloop's RuntimeError on writing to a closed connection into redis-py's ConnectionError."""

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise Lost(str(error)) from error


class _Connection(_ClosedIsLost, Connection):
    pass


class _TlsConnection(_ClosedIsLost, SSLConnection):
    pass


def connect(redis_url: str, timeout_seconds: float) -> Redis:
    """Return a client that fails fast; with redis-py's defaults a call to a Redis that hangs takes a minute."""
    pool = ConnectionPool.from_url(
        redis_url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        # One retry, at once: a pooled connection may have died while it was idle.
        retry=Retry(NoBackoff(), 1),
    )
    # The URL decides between redis-py's two classes of connection.
    pool.connection_class = _TlsConnection if issubclass(pool.connection_class, SSLConnection) else _Connection
    return Redis.from_pool(pool)


async def bounded(answer: Awaitable[Answer]) -> Answer:
    """Await the answer to a command for COMMAND_SECONDS in all.

    The timeout of a connection is for each step alone: to connect, to say hello, to write, to read, and to retry.

    Raises:
        asyncio.TimeoutError: if it takes longer. The command may have been executed.
    """
    try:
        return await asyncio.wait_for(answer, COMMAND_SECONDS)
    except (RedisError, OSError) as error:
        # The frame of wait_for refers to its task, and that to the error: a cycle that would keep all frames of the
        # traceback, and the rows of jobs in them, until the garbage collector finds it.
        raise error.with_traceback(None) from None
