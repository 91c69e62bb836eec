"""The timer of an idle connection, set anew after each answer."""

import asyncio
from collections.abc import Callable


class IdleTimer:
    """A timer that is started and cancelled for every request, in the place of one of the event loop's for each.

    The event loop's own timer stays as it is meanwhile, and is set again only if it is early.
    """

    __slots__ = ("_due", "_loop", "_on_idle", "_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, on_idle: Callable[[], None]) -> None:
        """`on_idle` is called when the timer was started and not cancelled for so many seconds."""
        self._loop = loop
        self._seconds = seconds
        self._on_idle = on_idle
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> "IdleTimer":
        """Start the timer, and return it."""
        self._due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._check)
        return self

    def cancel(self) -> None:
        """Cancel the timer until it is started again."""
        self._due = None

    def close(self) -> None:
        """Cancel the timer for good, and forget what it would call."""
        self._due, self._on_idle = None, _nothing
        if self._timer is not None:
            self._timer.cancel()

    def when(self) -> float | None:
        """Return the time of the event loop's clock at which the connection has been idle; None if cancelled."""
        return self._due

    def _check(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._check)
        else:
            self._on_idle()


def _nothing() -> None:
    pass
