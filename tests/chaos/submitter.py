"""A submitter of very many jobs, as fast as they are accepted: a client library would take longer than the gateway.

Each job has an Idempotency-Key, and is sent again until it is accepted. The submitter uses raw sockets without
pipelining, with one request at a time on each of many connections.
"""

import contextlib
import select
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator

from tests.chaos.ledger import ANSWER_SLACK_SECONDS, PROBLEM, SUBMIT_SECONDS, VIOLATIONS_KEPT, Lateness

CONNECTIONS = 64
AGAIN_SECONDS = 0.2
"""Pause in seconds before a submission is sent again, or a connection is tried again."""

PATIENCE_SECONDS = 10.0
"""Seconds after which a missing answer means that the service hangs."""

SENT_TWICE = 100
"""One job in this many is submitted again after it was accepted: the same key must find the same job."""

ID_BYTES = 16


class _Connection:
    """A keep-alive connection with at most one request in flight."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=2)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.number: int | None = None
        """Number of the job that is being submitted."""
        self.sent = 0.0
        self._received = b""

    def send(self, number: int, request: bytes) -> None:
        """Send a request. It fits into the socket's buffer, which is otherwise empty."""
        self.number, self.sent, self._received = number, time.monotonic(), b""
        if self.socket.send(request) != len(request):
            raise OSError("a request did not fit into the socket's buffer")

    def receive(self) -> tuple[int, dict[bytes, bytes]] | None:
        """Return status and headers of the answer, None while it is incomplete.

        Raises:
            OSError: If the connection is closed.
        """
        data = self.socket.recv(65536)
        if not data:
            raise OSError("closed")
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        status, *lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        return (int(status[9:12]), headers) if len(body) >= int(headers[b"content-length"]) else None


class Submitter:
    """A submitter that knows the job of every accepted number."""

    def __init__(self, host: str, port: int, jobs: int, body: Callable[[int], bytes], lateness: Lateness) -> None:
        self._address = host, port
        self._body = body
        self._lateness = lateness
        # Keys that no other run uses.
        self._run_id = uuid.uuid4().hex
        self._head = f"POST /jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        self._ids = bytearray(ID_BYTES * jobs)
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._again: deque[tuple[float, int]] = deque()
        self._looked_at = 0.0
        self._stopped = False
        self.paused = False
        """While set, no job is submitted for the first time."""
        self.pause_at = sys.maxsize
        """Number of accepted jobs from which on none is."""
        self.accepted = 0
        """Number of accepted jobs, each counted once."""
        self.answers_202 = 0
        """Number of 202 answers, including those to repeated submissions."""
        self.refused = 0
        """Number of submissions that were answered with 503."""
        self.broken = 0
        """Number of submissions that were not answered because the connection broke."""
        self.slowest_seconds = 0.0
        self.violations: list[str] = []

    def job_ids(self) -> Iterator[str]:
        """Yield the ids by number; a job that was not accepted has an id of zeros."""
        for at in range(0, len(self._ids), ID_BYTES):
            yield str(uuid.UUID(bytes=bytes(self._ids[at : at + ID_BYTES])))

    def submit(self, numbers: range) -> None:
        """Submit these jobs; return when all are accepted, or when promises were broken too often."""
        fresh = iter(numbers)
        done = False
        while not done and not self._stopped and len(self.violations) < VIOLATIONS_KEPT:
            self._look_after_connections()
            done = self._send_what_there_is(fresh) and len(self._idle) == len(self._connections) and not self._again
            for file, _ in self._epoll.poll(0.02):
                self._receive(self._connections[file])

    def stop(self) -> None:
        """Let `submit` return; called from another thread."""
        self._stopped = True

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.socket.close()
        self._epoll.close()

    def _send_what_there_is(self, fresh: Iterator[int]) -> bool:
        """Send on every idle connection; return True if no job is left to be sent for the first time."""
        while self._idle:
            if self._again and self._again[0][0] <= time.monotonic():
                number = self._again.popleft()[1]
            elif self.paused or self.accepted >= self.pause_at:
                return False
            else:
                found = next(fresh, None)
                if found is None:
                    return True
                number = found
            connection = self._idle.pop()
            try:
                connection.send(number, self._request(number))
            except OSError:
                self._drop(connection)
        return False

    def _request(self, number: int) -> bytes:
        body = self._body(number)
        own = f"Idempotency-Key: {self._run_id} {number}\r\nContent-Length: {len(body)}\r\n\r\n"
        return (self._head + own).encode() + body

    def _look_after_connections(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < AGAIN_SECONDS:
            return
        self._looked_at = now
        for connection in list(self._connections.values()):
            if connection.number is not None and now - connection.sent > PATIENCE_SECONDS:
                self._violated(f"I3: job {connection.number} was not answered within {PATIENCE_SECONDS:g} s")
                self._drop(connection)
        with contextlib.suppress(OSError):
            while len(self._connections) < CONNECTIONS:
                connection = _Connection(*self._address)
                self._connections[connection.socket.fileno()] = connection
                self._epoll.register(connection.socket, select.EPOLLIN)
                self._idle.append(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection.number is None:
            self._idle.remove(connection)
        else:
            # It is unknown whether the job was accepted.
            self.broken += 1
            self._send_again(connection.number)
        del self._connections[connection.socket.fileno()]
        # A process that is being started may hold a copy of the socket for a moment, which keeps it in the epoll
        # object.
        self._epoll.unregister(connection.socket)
        connection.socket.close()

    def _send_again(self, number: int) -> None:
        self._again.append((time.monotonic() + AGAIN_SECONDS, number))

    def _receive(self, connection: _Connection) -> None:
        try:
            answer = connection.receive()
        except OSError:
            self._drop(connection)
            return
        number = connection.number
        if answer is None or number is None:
            return
        took = time.monotonic() - connection.sent
        self.slowest_seconds = max(self.slowest_seconds, took)
        bound_seconds = SUBMIT_SECONDS + ANSWER_SLACK_SECONDS
        if took > bound_seconds and took > bound_seconds + self._lateness.worst(connection.sent):
            self._violated(f"I3: job {number} was answered after {took:.2f} s, {bound_seconds:g} s are promised")
        connection.number = None
        self._idle.append(connection)
        status, headers = answer
        if status == 202:
            self._take(number, headers)
            return
        if status != 503 or b"retry-after" not in headers or headers.get(b"content-type") != PROBLEM.encode():
            self._violated(f"I5: job {number} was answered {status} {headers}")
        self.refused += 1
        self._send_again(number)

    def _take(self, number: int, headers: dict[bytes, bytes]) -> None:
        self.answers_202 += 1
        job_id = bytes.fromhex(headers[b"location"].removeprefix(b"/jobs/").replace(b"-", b"").decode())
        place = slice(ID_BYTES * number, ID_BYTES * (number + 1))
        known = self._ids[place]
        if not any(known):
            self._ids[place] = job_id
            self.accepted += 1
            if number % SENT_TWICE == 0:
                self._send_again(number)
        elif known != job_id or b"idempotent-replayed" not in headers:
            self._violated(f"I1: job {number} was accepted as {known.hex()}, and again as {job_id.hex()}")

    def _violated(self, what: str) -> None:
        self.violations.append(what)
