"""The end of a connection whose caller may still be sending.

A socket that is closed while bytes arrive resets the connection, and the reset overtakes the answer: a caller that
sends its whole body before it reads, as most HTTP libraries do, would never see a 413. So the gateway sends its answer
and the end of its own side, and discards what still arrives for a while (nginx: `lingering_close`; RFC 9112, section
9.6).
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

LINGERING_SECONDS = 30.0
"""Longest time for which the rest of a request is discarded; nginx has the same default."""

IDLE_SECONDS = 5.0
"""Time without a byte after which a caller is not waited for any more; nginx has the same default."""

HURRIED_SECONDS = 2.0
"""Time to discard instead, where connections are too many or too slow, or the gateway stops."""

DISCARDED_MAX_BYTES = 100_000_000
"""Bytes that are discarded at most: 25 bodies of the default limit, which cost the event loop some 20 ms."""


_DISCARD = struct.pack("ii", 1, 0)
"""Value of `SO_LINGER`: a close resets the connection and discards what is unsent."""


def abort(transport: asyncio.Transport) -> None:
    """Close a connection at once; if its caller does not take the answer, the system discards that too.

    Otherwise the system would keep the socket's buffer of up to 4 MB, and offer it to the caller for minutes, beyond
    the limit on connections (nginx: `reset_timedout_connection`).
    """
    if transport.get_write_buffer_size():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
    transport.abort()


def end_unless_continued(cycle: RequestResponseCycle, stopping: Callable[[], bool]) -> None:
    """Keep a connection only if the body is asked for: else the next request may come in its place (RFC 9110)."""
    keep_alive, receive = cycle.keep_alive, cycle.receive

    async def receive_and_keep() -> Any:
        cycle.keep_alive = keep_alive and not stopping()
        return await receive()

    cycle.keep_alive = False
    cycle.receive = receive_and_keep  # type: ignore[method-assign]


class LingeringTransport:
    """A connection's transport as uvicorn uses it, whose `close` keeps the answer from being lost."""

    def __init__(self, transport: asyncio.Transport, may_send: Callable[[], bool]) -> None:
        """`may_send` returns True if the caller may be sending something that will not be read."""
        self._transport = transport
        self._may_send = may_send
        self._rest: _Rest | None = None
        # The transport's own methods: going through methods of this class would cost every request something.
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size

    def close(self) -> None:
        """Write what is to be written, and close the connection; linger if the caller may be sending."""
        self.linger(LINGERING_SECONDS if self._may_send() else 0)

    def abort(self) -> None:
        """Close the connection at once; an answer that its caller does not take is discarded."""
        abort(self._transport)

    def linger(self, seconds: float = LINGERING_SECONDS) -> None:
        """Write what is to be written, discard what arrives for so many seconds at most, and close the connection."""
        if self.is_closing():
            return
        if seconds:
            self.is_closing = lambda: True
            # A request whose body was refused may still be answered by the application, which does not know.
            self.write = lambda data: None
            self._rest = _Rest(self._transport, seconds)
        else:
            self._transport.close()

    def hurry(self) -> None:
        """Shorten the time for which what arrives is discarded, if the connection is closing so."""
        if self._rest is not None:
            self._rest.shorten(HURRIED_SECONDS)


class _Rest(asyncio.Protocol):
    """The protocol of a connection from the end of its last answer on: it discards what arrives."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._protocol: Any = transport.get_protocol()
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self._bytes_left = DISCARDED_MAX_BYTES
        transport.set_protocol(self)
        transport.write_eof()
        transport.resume_reading()
        self._received_at = self._loop.time()
        self._check()

    def data_received(self, data: bytes) -> None:
        """Discard what has arrived."""
        self._received_at = self._loop.time()
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            abort(self._transport)
        # libuv would read up to 32 times before the next connection has its turn.
        self._transport.pause_reading()
        self._loop.call_soon(self._transport.resume_reading)

    def shorten(self, seconds: float) -> None:
        """End the connection within so many seconds."""
        self._until = min(self._until, self._loop.time() + seconds)
        self._timer.cancel()
        self._check()

    def _check(self) -> None:
        now = self._loop.time()
        if self._transport.get_write_buffer_size():
            # The caller has not taken its answer yet, for which it has time of its own.
            self._received_at = now
        due = min(self._until, self._received_at + IDLE_SECONDS)
        if now >= due:
            abort(self._transport)
        else:
            self._timer = self._loop.call_at(due, self._check)

    def pause_writing(self) -> None:
        """Pass it on: an answer may still be on its way."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._timer.cancel()
        self._protocol.connection_lost(exc)
