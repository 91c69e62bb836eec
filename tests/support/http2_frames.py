"""Calls of gRPC as frames of HTTP/2 (RFC 9113), for what no client would send."""

import socket
import struct
from collections.abc import Sequence
from types import TracebackType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
FRAME_BYTES_MAX = 16_384
NEWEST_IN_TABLE = b"\xbe"
"""Reference to the header that was added to the table last (RFC 7541, 6.1)."""

Header = tuple[bytes, bytes]


class Http2Connection:
    """A connection of one client; it reads nothing but what `answered` asks for."""

    def __init__(self, address: str, window: int | None = None) -> None:
        """Connect; `window` is the number of bytes of an answer that the server may send, by default 65,535."""
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self._socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, settings))
        self._next = 1

    def __enter__(self) -> "Http2Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(
        self, path: bytes, message: bytes | None, headers: Sequence[Header] = (), repeated: Header | None = None
    ) -> None:
        """Begin a call; without a message, of at most 60,000 bytes, it is left open.

        A header that is `repeated` comes ten thousand times, each in one byte that refers to the first.
        """
        all_headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"test"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *headers,
        ]
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in all_headers)
        if repeated is not None:
            block += b"\x40" + _text(repeated[0]) + _text(repeated[1]) + 9_999 * NEWEST_IN_TABLE
        self._socket.sendall(_frame(HEADERS, END_HEADERS, self._next, block))
        if message is not None:
            content = b"\0" + struct.pack(">I", len(message)) + message
            parts = [content[at : at + FRAME_BYTES_MAX] for at in range(0, len(content), FRAME_BYTES_MAX)]
            for part in parts[:-1]:
                self._socket.sendall(_frame(DATA, 0, self._next, part))
            self._socket.sendall(_frame(DATA, END_STREAM, self._next, parts[-1]))
        self._next += 2

    def answered(self) -> int:
        """Wait for the headers of the next answer, and return the number of its stream."""
        while True:
            head = self._read(9)
            content = self._read(int.from_bytes(head[:3], "big"))
            kind, flags = head[3], head[4]
            if kind == SETTINGS and not flags & ACK:
                self._socket.sendall(_frame(SETTINGS, ACK, 0, b""))
            elif kind == HEADERS:
                assert content
                return int.from_bytes(head[5:9], "big")

    def _read(self, n_bytes: int) -> bytes:
        content = b""
        while len(content) < n_bytes:
            part = self._socket.recv(n_bytes - len(content))
            assert part, "the server has closed the connection"
            content += part
        return content


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def _text(text: bytes) -> bytes:
    """Return a string literal of HPACK (RFC 7541, 5.2)."""
    n_bytes = len(text)
    if n_bytes < 127:
        return bytes([n_bytes]) + text
    prefix, rest = b"\x7f", n_bytes - 127
    while rest > 127:
        prefix += bytes([rest & 127 | 128])
        rest >>= 7
    return prefix + bytes([rest]) + text
