"""The deadlines of many calls, watched by one timer: one per call would nearly always be made to be cancelled."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Generic, TypeVar

TICK_SECONDS = 0.01
"""How late a deadline can be noticed."""

Call = TypeVar("Call")


class Deadlines(Generic[Call]):
    """Ticks, each with the calls that end there: the timing wheel of Varghese and Lauck (1987), as a dict."""

    def __init__(self, expire: Callable[[Call], None]) -> None:
        self._expire = expire
        self._ending: defaultdict[int, set[Call]] = defaultdict(set)
        self._past = 0
        """The last tick that was looked at."""

    def watch(self, call: Call, seconds: float) -> int:
        """Let a call expire in so many seconds unless it is forgotten; returns what `forget` needs."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._ending:
            self._past = int(now / TICK_SECONDS)
            loop.call_later(TICK_SECONDS, self._tick)
        tick = math.ceil((now + seconds) / TICK_SECONDS)
        self._ending[tick].add(call)
        return tick

    def forget(self, call: Call, tick: int) -> None:
        """A call has ended; harmless if it expired."""
        calls = self._ending.get(tick)
        if calls is not None:
            calls.discard(call)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = int(loop.time() / TICK_SECONDS)
        for tick in range(self._past + 1, now + 1):
            for call in self._ending.pop(tick, ()):
                self._expire(call)
        self._past = now
        if self._ending:
            loop.call_later(TICK_SECONDS, self._tick)
