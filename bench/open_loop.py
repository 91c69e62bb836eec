"""Load at a constant rate, whatever the server does: `python -m bench.open_loop`, a process of its own.

A closed-loop tool such as wrk sends the next request when the last answer has arrived. It asks a stalled server less,
and the stall counts once ("coordinated omission"). Here request k is due at `start + k / rate`, and its latency is
measured from that time, also while it waits for a free connection and while this generator is late, which it reports.

The generator uses raw sockets without pipelining, because the timers of an event loop are as coarse as the latencies to
be measured (1 ms). `select` waits with a resolution of microseconds for the epoll object, which is itself a file.
"""

import argparse
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel

DRAIN_SECONDS = 3.0
"""Seconds to wait for answers after the last request; a request without an answer then counts as an error."""

CONNECTIONS = 256
"""Connections at the start; more are made, where allowed, when all of these are in use."""


class OpenFigures(BaseModel):
    """The result of one run; times in seconds, rates per second."""

    offered: float
    answered: float
    """Good answers per second, over the time until the last of them."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    late_p99_seconds: float
    """Delay of this generator in sending requests that had a free connection: latencies below it mean nothing."""

    errors: int
    """Number of answers that are not good, and of requests without an answer."""

    rejected: int = 0
    """Number of errors that say when to retry: 429 and 503."""

    rejected_p99_seconds: float = 0.0
    ended_at: float = 0.0
    """Time of the last request, as by `time.time()`."""


class _Connection:
    """A keep-alive connection with at most one request in flight."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self._received = b""
        self._missing = -1

    def send(self, request: bytes, due: float) -> None:
        """Send a request that is due at that time. It fits into the socket's buffer, which is otherwise empty."""
        self.due, self._received, self._missing = due, b"", -1
        if self.socket.send(request) != len(request):
            raise OSError("a request did not fit into the socket's buffer")

    def receive(self) -> int:
        """Return the status of the answer, 0 while it is incomplete.

        Raises:
            OSError: If the server closed the connection, or its answer has no Content-Length.
        """
        data = self.socket.recv(65536)
        if not data:
            raise OSError("the server closed the connection")
        self._received += data
        if self._missing < 0:
            head, end, body = self._received.partition(b"\r\n\r\n")
            if not end:
                return 0
            _, found, length = head.lower().partition(b"\r\ncontent-length:")
            if not found:
                raise OSError("an answer without Content-Length")
            self._missing = int(length.partition(b"\r\n")[0]) - len(body)
        else:
            self._missing -= len(data)
        return int(self._received[9:12]) if self._missing <= 0 else 0


class Generator:
    """A generator that sends one request repeatedly at a rate, over many connections."""

    def __init__(self, url: str, body: bytes, connections: int = CONNECTIONS) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        self._request = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._epoll = select.epoll()
        self._by_file: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._waiting: deque[float] = deque()
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._errors = 0
        self._rejected: list[float] = []
        self._address = host, port
        self._connections_max = connections
        for _ in range(min(connections, CONNECTIONS)):
            self._connect()

    def run(self, rate: float, seconds: float) -> OpenFigures:
        """Send for some seconds and wait for the answers; return the figures of this run alone."""
        self._latencies, self._late, self._rejected, self._errors = [], [], [], 0
        clock, total, sent = time.perf_counter, max(1, int(rate * seconds)), 0
        start = clock() + 0.01
        give_up = start + seconds + DRAIN_SECONDS
        last_answer = start
        ended_at = 0.0
        while clock() < give_up and (sent < total or len(self._idle) < len(self._by_file) or self._waiting):
            now = clock()
            while sent < total and start + sent / rate <= now:
                self._send_or_wait(start + sent / rate)
                sent += 1
                ended_at = time.time()
            timeout = start + sent / rate - clock() if sent < total else 0.1
            if timeout > 0:
                select.select([self._epoll], [], [], timeout)
            for file, _ in self._epoll.poll(0):
                last_answer = self._receive(self._by_file[file]) or last_answer
        unanswered = total - len(self._latencies) - self._errors
        took = max(last_answer - start, seconds)
        found = sorted(self._latencies) or [float("inf")]
        return OpenFigures(
            offered=rate,
            answered=len(self._latencies) / took,
            p50_seconds=_quantile(found, 0.5),
            p95_seconds=_quantile(found, 0.95),
            p99_seconds=_quantile(found, 0.99),
            late_p99_seconds=_quantile(sorted(self._late) or [0.0], 0.99),
            errors=self._errors + unanswered,
            rejected=len(self._rejected),
            rejected_p99_seconds=_quantile(sorted(self._rejected) or [0.0], 0.99),
            ended_at=ended_at,
        )

    def close(self) -> None:
        """Close all connections."""
        for connection in self._by_file.values():
            connection.socket.close()
        self._epoll.close()

    def _connect(self) -> None:
        connection = _Connection(*self._address)
        self._by_file[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN)
        self._idle.append(connection)

    def _send_or_wait(self, due: float) -> None:
        if not self._idle and len(self._by_file) < self._connections_max:
            self._connect()
        if not self._idle:
            self._waiting.append(due)
            return
        self._late.append(time.perf_counter() - due)
        self._idle.pop().send(self._request, due)

    def _replace(self, connection: _Connection) -> None:
        """Handle a connection that the server closed.

        An error if an answer was due, otherwise no reason for a new connection.
        """
        idle = connection in self._idle
        del self._by_file[connection.socket.fileno()]
        connection.socket.close()
        if idle:
            self._idle.remove(connection)
        else:
            self._errors += 1
            self._connect()

    def _receive(self, connection: _Connection) -> float | None:
        """Read an answer; return the time if it was a good one."""
        try:
            status = connection.receive()
        except OSError:
            self._replace(connection)
            return None
        if not status:
            return None
        now = time.perf_counter()
        if 200 <= status < 300:
            self._latencies.append(now - connection.due)
        else:
            self._errors += 1
            if status in (429, 503):
                self._rejected.append(now - connection.due)
        if self._waiting:
            connection.send(self._request, self._waiting.popleft())
        else:
            self._idle.append(connection)
        return now


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(arguments: list[str]) -> None:
    """Run once, print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.open_loop", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("rate", type=float, help="requests per second")
    parser.add_argument("seconds", type=float)
    parser.add_argument("body", type=Path, help="file with the JSON to send")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    options = parser.parse_args(arguments)
    generator = Generator(options.url, options.body.read_bytes(), options.connections)
    print(generator.run(options.rate, options.seconds).model_dump_json())
    generator.close()


if __name__ == "__main__":
    main(sys.argv[1:])
