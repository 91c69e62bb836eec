"""The two commands that every batch costs, without the layers of a general client.

redis-py's asyncio client makes a stream, a timeout and a dozen calls of each command: with one caller that was a third
of what the gateway does. Here a command is one write and one future. redis-py still connects: addresses, TLS, users and
protocol versions are its own.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import hiredis
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TooLate

from gateway.broker.redis_client import connect

NOT_ALL = object()
"""What the parser says when an answer is not complete."""

Entry = tuple[bytes, dict[bytes, bytes]]


class RawConnection:
    """One connection to Redis, made when it is needed; commands are written at once, and answered in order.

    A command whose connection breaks is sent once more: it may be executed twice.
    """

    def __init__(self, redis_url: str, timeout_seconds: float) -> None:
        self._pool = connect(redis_url, timeout_seconds).connection_pool
        self._timeout_seconds = timeout_seconds
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()

    async def lpush(self, name: str, value: bytes) -> None:
        """Put a value before the others of a list.

        Raises:
            RedisError: if Redis did not confirm it; it may be there all the same.
        """
        await self._execute("LPUSH", name, value)

    async def xread(self, streams: Mapping[str, bytes], count: int, block: int) -> list[tuple[bytes, list[Entry]]]:
        """The entries of streams after the given ids, as redis-py has them; waits `block` milliseconds for some.

        Raises:
            RedisError: if Redis does not answer.
        """
        ids = streams.values()
        answer = await self._execute("XREAD", "COUNT", count, "BLOCK", block, "STREAMS", *streams, *ids)
        if answer is None:
            return []
        # A map since RESP3.
        found = answer.items() if isinstance(answer, dict) else answer
        return [
            (name, [(entry_id, dict(zip(fields[::2], fields[1::2], strict=True))) for entry_id, fields in entries])
            for name, entries in found
        ]

    async def aclose(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()

    async def _execute(self, *command: str | bytes | int) -> Any:
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one
        link = self._link
        if link is None or link.lost:
            link = await self._connected()
        try:
            return await link.ask(packed)
        except Lost:
            link = await self._connected()
        return await link.ask(packed)

    async def _connected(self) -> "_Link":
        async with self._connecting:
            if self._link is None or self._link.lost:
                connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
                await connection.connect()
                self._link = _Link(connection, self._timeout_seconds)
            return self._link


class _Link(asyncio.Protocol):
    """A connection that redis-py has made, taken over."""

    def __init__(self, connection: Connection, timeout_seconds: float) -> None:
        self._connection = connection
        self._transport: Any = connection._writer.transport  # type: ignore[union-attr]
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader(replyError=ResponseError, notEnoughData=NOT_ALL)
        self._asked: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.lost = False
        self._transport.set_protocol(self)

    def ask(self, packed: bytes) -> "asyncio.Future[Any]":
        """Write a command; its answer is an exception if Redis refuses it, or does not answer in time."""
        answer = self._loop.create_future()
        self._asked.append((answer, self._loop.time() + self._timeout_seconds))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_seconds, self._look)
        try:
            self._transport.write(packed)
        except RuntimeError as error:
            # Which is what uvloop calls a connection that is closed.
            self._give_up(Lost(str(error)))
        return answer

    def data_received(self, data: bytes) -> None:
        """Answers, in the order of the commands."""
        self._parser.feed(data)
        while (answer := self._parser.gets()) is not NOT_ALL:
            if isinstance(answer, hiredis.PushNotification):
                continue
            waiting, _ = self._asked.popleft()
            if waiting.done():
                continue
            if isinstance(answer, ResponseError):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing that was asked will be answered."""
        self._give_up(Lost(str(exc) if exc else "closed by Redis"))

    def close(self) -> None:
        """Give it up."""
        self._give_up(Lost("closed"))

    def _look(self) -> None:
        # One timer for all that is asked; it is not worth cancelling.
        self._timer = None
        if not self._asked:
            return
        _, due = self._asked[0]
        if due <= self._loop.time():
            # An answer that is late would be taken for the next one's.
            self._give_up(TooLate("Redis does not answer"))
        else:
            self._timer = self._loop.call_at(due, self._look)

    def _give_up(self, error: Exception) -> None:
        if self.lost:
            return
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        # Its destructor would complain of a connection that was left open.
        self._connection._reader = self._connection._writer = None
        while self._asked:
            waiting, _ = self._asked.popleft()
            if not waiting.done():
                waiting.set_exception(error)
