"""Connection for the two commands that every batch needs, without the layers of a general client.

redis-py's asyncio client goes through a stream, a timeout and a dozen calls for each command: with one caller that was
a third of the gateway's work. Here a command is one write and one future. redis-py still opens the connection, so
addresses, TLS, users and protocol versions work as everywhere else.
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
from shared.master import DEMOTED, is_demoted

INCOMPLETE = object()
"""Returned by the parser while an answer is not complete."""

Entry = tuple[bytes, dict[bytes, bytes]]


class RawConnection:
    """One connection to Redis, opened at the first command; commands are written at once and answered in order.

    A command whose connection breaks is sent once more, so it may be executed twice.
    """

    def __init__(self, redis_url: str, timeout_seconds: float) -> None:
        self._pool = connect(redis_url, timeout_seconds).connection_pool
        # The URL may name another one.
        self._timeout_seconds: float = self._pool.connection_kwargs["socket_timeout"]
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()

    async def lpush(self, name: str, value: bytes) -> None:
        """Put a value at the head of a list.

        Raises:
            RedisError: if Redis did not confirm it; the value may be there all the same.
        """
        await self._execute("LPUSH", name, value)

    async def xread(self, streams: Mapping[str, bytes], count: int, block: int) -> list[tuple[bytes, list[Entry]]]:
        """Return the entries of streams after the given ids, in redis-py's form.

        Waits `block` milliseconds for the first entry, and returns an empty list if there is none.

        Raises:
            RedisError: if Redis does not answer.
        """
        ids = streams.values()
        answer = await self._execute("XREAD", "COUNT", count, "BLOCK", block, "STREAMS", *streams, *ids)
        if answer is None:
            return []
        # RESP3 answers with a map, RESP2 with a list of pairs.
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
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub takes tuples of one element only
        link = self._link
        if link is None or link.closed:
            link = await self._open_link()
        try:
            return await link.send(packed)
        except Lost:
            link = await self._open_link()
        return await link.send(packed)

    async def _open_link(self) -> "_Link":
        async with self._connecting:
            if self._link is None or self._link.closed:
                connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
                await connection.connect()
                self._link = _Link(connection, self._timeout_seconds)
            return self._link


class _Link(asyncio.Protocol):
    """A connection that redis-py has opened, taken over from it."""

    def __init__(self, connection: Connection, timeout_seconds: float) -> None:
        self._connection = connection
        self._transport: Any = connection._writer.transport  # type: ignore[union-attr]
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader(replyError=ResponseError, notEnoughData=INCOMPLETE)
        self._unanswered: deque[tuple[asyncio.Future[Any], float]] = deque()
        """Answers that are due, each with its deadline in seconds of the event loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False
        self._transport.set_protocol(self)

    def send(self, packed: bytes) -> "asyncio.Future[Any]":
        """Write a command and return its future answer, which fails if Redis refuses or does not answer in time."""
        answer = self._loop.create_future()
        self._unanswered.append((answer, self._loop.time() + self._timeout_seconds))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_seconds, self._check_deadline)
        try:
            self._transport.write(packed)
        except RuntimeError as error:
            # uvloop's exception for a closed connection.
            self._fail(Lost(str(error)))
        return answer

    def data_received(self, data: bytes) -> None:
        """Give the answers to the commands, in their order."""
        self._parser.feed(data)
        while (answer := self._parser.gets()) is not INCOMPLETE:
            if isinstance(answer, hiredis.PushNotification):
                continue
            waiting, _ = self._unanswered.popleft()
            if isinstance(answer, ResponseError) and is_demoted(answer):
                _set(waiting, Lost(DEMOTED))
                self._fail(Lost(DEMOTED))
                return
            _set(waiting, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the commands that have no answer yet."""
        self._fail(Lost(str(exc) if exc else "closed by Redis"))

    def close(self) -> None:
        """Close the connection and fail the commands that have no answer yet."""
        self._fail(Lost("closed"))

    def _check_deadline(self) -> None:
        # One timer serves all commands. Cancelling it at every answer would cost more than this call.
        self._timer = None
        if not self._unanswered:
            return
        _, due = self._unanswered[0]
        if due <= self._loop.time():
            # The connection is of no use any more: a late answer would be taken for the one to the next command.
            self._fail(TooLate("Redis does not answer"))
        else:
            self._timer = self._loop.call_at(due, self._check_deadline)

    def _fail(self, error: Exception) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        # Without this, the destructor of redis-py's connection would warn that it was left open.
        self._connection._reader = self._connection._writer = None
        while self._unanswered:
            waiting, _ = self._unanswered.popleft()
            _set(waiting, error)


def _set(waiting: "asyncio.Future[Any]", answer: Any) -> None:
    """Give an answer to whoever still waits for it."""
    if waiting.done():
        return
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
