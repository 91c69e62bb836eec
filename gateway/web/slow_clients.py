"""The open connections of a gateway process: how many there may be, and how long a caller may take for its part.

uvicorn waits for ever for a request that does not end and for an answer that nobody takes. Timers for each
request would cost each of them something; instead all connections are looked at once a second, and what has been the
same for too long is cut off.
"""

import asyncio
import logging
import resource
import time
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple, Protocol

from gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often all connections are looked at, and twice in the shortest time that they may take."""

LOOKED_AT_TOGETHER = 1000
"""Connections at most, in a millisecond or two: then it is the turn of the requests."""

OTHER_FILES = 200
"""File descriptors beside those of the connections: libraries, Redis, the model store."""


class Phase(Enum):
    """What a connection waits for its caller to do."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"


class Connection(Protocol):
    """What is watched."""

    def waits_for(self) -> tuple[Phase, Any] | None:
        """What its caller is to do, and of which request; None while it is our turn, or nobody's."""

    def cut_off(self, phase: Phase) -> None:
        """End it."""


class _Wait(NamedTuple):
    """What a connection waits for, and since when."""

    phase: Phase | None
    request: object
    since: float


class Connections:
    """Watches them all."""

    def __init__(self, settings: GatewaySettings, rejected: Callable[[str], None]) -> None:
        self._max = settings.connections_max
        self._seconds = {
            Phase.HEAD: settings.head_receive_seconds,
            Phase.BODY: settings.body_receive_seconds,
            Phase.ANSWER: settings.answer_send_seconds,
        }
        self._look_seconds = min(LOOK_SECONDS, *(seconds / 2 for seconds in self._seconds.values()))
        self._rejected = rejected
        self._waits: dict[Connection, _Wait] = {}

    def add(self, connection: Connection) -> bool:
        """Watch one more; False if there are too many."""
        if len(self._waits) >= self._max:
            self._rejected("connections_full")
            return False
        # It is to say something.
        self._waits[connection] = _Wait(Phase.HEAD, None, time.monotonic())
        return True

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        self._waits.pop(connection, None)

    async def step(self) -> None:
        """Look at all of them, a little later."""
        await asyncio.sleep(self._look_seconds)
        everyone = list(self._waits)
        for at in range(0, len(everyone), LOOKED_AT_TOGETHER):
            self.look(time.monotonic(), everyone[at : at + LOOKED_AT_TOGETHER])
            await asyncio.sleep(0)

    def look(self, now: float, connections: Iterable[Connection] | None = None) -> None:
        """Cut off those of these, or of all, that take too long; `now` as `time.monotonic()` has it."""
        slow: list[tuple[Connection, Phase]] = []
        for connection in list(self._waits) if connections is None else connections:
            wait = self._waits.get(connection)
            if wait is None:
                continue
            phase, request = connection.waits_for() or (None, None)
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


def allow_files(connections: int) -> None:
    """Raise this process' limit of open files so that so many connections fit, or say that they don't."""
    needed = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (ValueError, OSError):
        # macOS has a limit beside the one that it tells.
        allowed = soft
    if allowed < needed:
        logger.warning("CONNECTIONS_MAX is %d, and this process may have %d open files only", connections, allowed)
