"""Redis clients that fail within seconds, and with redis-py's exceptions only."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError, ResponseError

from shared.broker_url import Sentinels, for_server
from shared.master import DEMOTED, Address, SentinelOrder, is_demoted, live_master, sentinel_options

COMMAND_SECONDS = 1.0
"""Time that a command to Redis may take before the caller gets 503."""

BLOCKING_READ_SECONDS = 3.0
"""Timeout of connections for blocking reads, which block for a second at most."""

Answer = TypeVar("Answer")


class Locator:
    """A call that returns the master's present address, as `shared.master.Locator` does, without blocking."""

    def __init__(self, sentinels: Sentinels) -> None:
        self._order = SentinelOrder(sentinels)

    async def __call__(self) -> Address:
        """Ask the Sentinels one after another.

        Raises:
            MasterUnknown: if none knows a live master.
        """
        last: Exception | None = None
        for url in self._order.all():
            # Asked last by the next call, even if this one is cancelled because it takes too long.
            self._order.put_last(url)
            try:
                async with Redis.from_url(url, **sentinel_options(Retry(NoBackoff(), 0))) as sentinel:
                    state: Any = await sentinel.sentinel_master(self._order.master_name)
                    address = live_master(state)
            except (RedisError, OSError) as error:
                last = error
            else:
                if address is not None:
                    self._order.put_first(url)
                    return address
        raise self._order.no_master(last)


class _ToMaster:
    """Mixin of a connection that asks where the master is, and breaks when the server is none any more.

    It also turns uvloop's RuntimeError on writing to a closed connection into redis-py's ConnectionError.
    """

    def __init__(self, *args: Any, locate: Locator | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._locate = locate

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        connection: Any = self
        if self._locate is not None and not connection.is_connected:
            connection.host, connection.port = await self._locate()
        await super().connect_check_health(*args, **options)  # type: ignore[misc]

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise Lost(str(error)) from error

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not is_demoted(error):
                raise
            await self.disconnect()  # type: ignore[attr-defined]
            raise Lost(DEMOTED) from None


class _Connection(_ToMaster, Connection):
    pass


class _TlsConnection(_ToMaster, SSLConnection):
    pass


def connect(redis_url: str, timeout_seconds: float) -> Redis:
    """Return a client of the master that fails fast; with redis-py's defaults a call that hangs takes a minute."""
    url, sentinels = for_server(redis_url)
    pool = ConnectionPool.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        socket_keepalive=True,
        # One retry, at once: a pooled connection may have died while it was idle.
        retry=Retry(NoBackoff(), 1),
    )
    # The URL decides between redis-py's two classes of connection.
    pool.connection_class = _TlsConnection if issubclass(pool.connection_class, SSLConnection) else _Connection
    if sentinels is not None:
        pool.connection_kwargs["locate"] = Locator(sentinels)
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
