"""Limits on open connections: how many a gateway process has, and how long a caller may take for its part.

uvicorn waits for ever for a request that does not end and for a response that nobody reads. A timer per request would
cost every request something. Instead all connections are checked once a second, and one that has waited for the same
thing too long is cut off.
"""

import asyncio
import logging
import resource
import time
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple, Protocol

from gateway.settings import GatewaySettings
from gateway.web.request_parser import ReadTurns
from shared.observability.log_limit import LogLimit

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Seconds between two checks of all connections; less where half of the shortest time limit is less."""

REFUSED_MAX = 100
"""Connections beyond the limit that may take a while to read why they were refused: half of the files for others."""

CHECKED_AT_ONCE = 1000
"""Connections checked in one turn of the event loop, which takes a millisecond or two."""

LINES_PER_SECOND = 10
"""Log lines about unreadable requests: nobody needs a key to send them."""

OTHER_FILES = 200
"""File descriptors besides those of the connections: libraries, Redis, the model store."""


class Phase(Enum):
    """The caller's part that a connection waits for."""

    HEAD = "head"
    """Sending request line and headers."""

    BODY = "body"
    """Sending the body."""

    ANSWER = "answer"
    """Reading the response."""


class Connection(Protocol):
    """A connection that can be checked and cut off."""

    def awaited_phase(self) -> tuple[Phase, Any] | None:
        """Return what the caller must do next and for which request; None if it need do nothing."""

    def cut_off(self, phase: Phase) -> None:
        """End the connection."""


class _Wait(NamedTuple):
    """The part of its caller that a connection waits for, and the start of the wait (`time.monotonic()`)."""

    phase: Phase | None
    request: object
    since: float


class ConnectionMonitor:
    """The open connections of a process: limits their number, and cuts off the slow ones."""

    def __init__(self, settings: GatewaySettings, rejected: Callable[[str], None]) -> None:
        """Take the limits from the settings.

        Args:
            settings: the gateway's settings.
            rejected: counts a caller turned away, by reason.
        """
        self._max = settings.connections_max
        self._seconds = {
            Phase.HEAD: settings.head_receive_seconds,
            Phase.BODY: settings.body_receive_seconds,
            Phase.ANSWER: settings.answer_send_seconds,
        }
        self._check_seconds = min(CHECK_SECONDS, *(seconds / 2 for seconds in self._seconds.values()))
        self._rejected = rejected
        self._waits: dict[Connection, _Wait] = {}
        self._refused: set[Connection] = set()
        self.read_turns = ReadTurns()
        """Turns of the connections at being parsed."""
        self._unreadable_lines = LogLimit(LINES_PER_SECOND, 1.0)
        self.stopping = False
        """True once the process stops: then a request that comes is the last of its connection."""

    @property
    def may_refuse_slowly(self) -> bool:
        """True if a refused connection may stay for a while: there are not many of them."""
        return len(self._refused) <= REFUSED_MAX

    def add(self, connection: Connection) -> bool:
        """Add an opened connection; False if there are too many."""
        if len(self._waits) >= self._max:
            self._rejected("connections_full")
            self._refused.add(connection)
            return False
        # The caller has to begin a request.
        self._waits[connection] = _Wait(Phase.HEAD, None, time.monotonic())
        return True

    def remove(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self._waits.pop(connection, None)
        self._refused.discard(connection)

    def unreadable(self) -> None:
        """Count a connection that was refused because its bytes are no HTTP, and log it at a limited rate."""
        self._rejected("invalid_http")
        before = self._unreadable_lines.admit()
        if before is not None:
            logger.info("a request that is not HTTP/1.1 was refused%s", before)

    async def step(self) -> None:
        """Check all connections, after a pause."""
        await asyncio.sleep(self._check_seconds)
        connections = list(self._waits)
        for start in range(0, len(connections), CHECKED_AT_ONCE):
            self.check(time.monotonic(), connections[start : start + CHECKED_AT_ONCE])
            await asyncio.sleep(0)

    def check(self, now: float, connections: Iterable[Connection] | None = None) -> None:
        """Cut off connections that have waited too long.

        Args:
            now: the time of `time.monotonic()`.
            connections: the connections to check; by default all.
        """
        slow: list[tuple[Connection, Phase]] = []
        for connection in list(self._waits) if connections is None else connections:
            wait = self._waits.get(connection)
            if wait is None:
                continue
            phase, request = connection.awaited_phase() or (None, None)
            if phase is not wait.phase or request is not wait.request:
                self._waits[connection] = _Wait(phase, request, now)
            elif phase is not None and now - wait.since > self._seconds[phase]:
                slow.append((connection, phase))
        for connection, phase in slow:
            self.remove(connection)
            self._rejected("slow_client")
            connection.cut_off(phase)
        if slow:
            logger.info("%d slow connections were cut off", len(slow))


def raise_file_limit(connections: int) -> None:
    """Raise this process's limit of open files to fit so many connections; log a warning if the limit stays lower."""
    needed = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (ValueError, OSError):
        # macOS enforces a lower limit than the one that it reports.
        allowed = soft
    if allowed < needed:
        logger.warning("CONNECTIONS_MAX is %d, and this process may have %d open files only", connections, allowed)
