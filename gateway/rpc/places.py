"""The places of calls in progress, of which nobody has all."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.errors import InvalidTensors
from gateway.fairness.budget import Budget
from gateway.problems import Problem, overloaded

PROBES_MAX = 100
"""Places of calls that need no key, which are those of probes: calls with keys leave them free, and have others."""

PROBE_SECONDS = 1.0
"""Longest time for the message of such a call to arrive."""

CROWDED_SECONDS = 2.0
"""Time for a message to arrive while there is no other place for its owner."""


class CallPlaces:
    """The places of a process. An owner of API keys may have half of them.

    A probe for which there is no place takes that of the one that has waited longest for its message. So calls without
    a message keep out no probe, whose message comes with it.
    """

    def __init__(self, calls_max: int, receive_seconds: float, rejected: Callable[[str], None]) -> None:
        """Take the limits.

        Args:
            calls_max: most calls at a time beside probes.
            receive_seconds: longest time for a message to arrive.
            rejected: counts a caller turned away, by reason.
        """
        self._calls = Budget(calls_max)
        self._probes = Budget(PROBES_MAX)
        self._receive_seconds = receive_seconds
        self._rejected = rejected
        self._silent_probes: dict[asyncio.Future[Any], None] = {}
        """The probes that wait for their messages, the first one first."""

    @contextmanager
    def of(self, owner: str | None) -> Iterator[None]:
        """Hold a place for a call of an owner of API keys, or for a probe if it is None.

        Raises:
            Problem: 503 if there is none.
        """
        share = (self._probes if owner is None else self._calls).share_of(owner or "")
        if not share.has_room(1) and not (owner is None and self._end_silent_probe()):
            self._rejected("connections_full")
            raise overloaded("connections_full", "too many calls are being answered", 1)
        share.add(1)
        try:
            yield
        finally:
            share.add(-1)

    def _end_silent_probe(self) -> bool:
        """End the probe that has waited longest for its message; return False if none waits."""
        longest = next(iter(self._silent_probes), None)
        if longest is None:
            return False
        del self._silent_probes[longest]
        longest.cancel()
        return True

    async def message_of(self, call: Any, owner: str | None) -> bytes:
        """Return the message of a call that has a place.

        Raises:
            InvalidTensors: if it has none.
            Problem: 408 if it does not arrive in time.
        """
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        reading = asyncio.ensure_future(call.read())
        if owner is None:
            self._silent_probes[reading] = None
        try:
            while not reading.done():
                left_seconds = began_at + self._patience_seconds(owner) - loop.time()
                if left_seconds <= 0:
                    raise _too_slow()
                await asyncio.wait([reading], timeout=min(left_seconds, PROBE_SECONDS))
        finally:
            self._silent_probes.pop(reading, None)
            reading.cancel()
        if reading.cancelled():
            raise _too_slow()
        message = reading.result()
        if not isinstance(message, bytes):
            raise InvalidTensors("the call has no message")
        return message

    def _patience_seconds(self, owner: str | None) -> float:
        if owner is None:
            most = PROBE_SECONDS
        elif self._calls.share_of(owner).has_room(1):
            most = self._receive_seconds
        else:
            most = CROWDED_SECONDS
        return min(most, self._receive_seconds)


def _too_slow() -> Problem:
    return Problem(408, "too_slow", "the message took too long to arrive")
