"""Many callers at once in one thread, each with a connection of its own, either waiting or idle."""

import select
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Crowd:
    """Connections to one server; closed by `close`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "127.0.0.1", parts.port or 80
        self._connections: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._received: dict[int, bytes] = {}
        self._answered: set[int] = set()

    def __len__(self) -> int:
        return len(self._connections)

    def join(self, many: int, request: bytes = b"") -> None:
        """Connect more callers, which ask or stay silent; `answers` reads what they get."""
        for _ in range(many):
            connection = socket.create_connection(self._address, timeout=60)
            if request:
                connection.sendall(request)
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)

    def answers(self, many: int, seconds: float) -> Counter[int]:
        """Return status -> number of answers, for the next `many` answers or those that arrive in time.

        0: broken connection.
        """
        seen: Counter[int] = Counter()
        until = time.monotonic() + seconds
        while seen.total() < many and time.monotonic() < until:
            for file, _ in self._poll.poll(0.1):
                status = self._read(file)
                if status is not None:
                    seen[status] += 1
        return seen

    def _read(self, file: int) -> int | None:
        """Return the status once the answer is complete. A connection that has its answer may end."""
        try:
            data = self._connections[file].recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._poll.unregister(file)
            self._connections.pop(file).close()
            return None if file in self._answered else 0
        received = self._received.pop(file, b"") + data
        head, found, body = received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if found and len(body) >= int(length):
            self._answered.add(file)
            return int(received[9:12])
        self._received[file] = received
        return None

    def close(self) -> None:
        """Disconnect all callers."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._poll.close()


@contextmanager
def crowd(url: str) -> Iterator[Crowd]:
    """Yield a crowd that disconnects at the end."""
    many = Crowd(url)
    try:
        yield many
    finally:
        many.close()
