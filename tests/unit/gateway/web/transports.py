"""A transport without a socket."""

import asyncio
from typing import Any


class RecordingTransport(asyncio.Transport):
    """Keeps what is written, and how it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False
        self.aborted = False
        self.unread_bytes = 0
        """Bytes of the write buffer: written, and not read by the other side."""
        self.half_closed = False
        self._protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        assert not self.half_closed, "transports of sockets raise a RuntimeError"
        if data:
            self.writes.append(data)

    def write_eof(self) -> None:
        self.half_closed = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        """Leave reading to the test."""

    def resume_reading(self) -> None:
        """Leave reading to the test."""
