"""Turns at work of which little is done at a time, so that no owner of API keys shuts the others out."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import Overloaded

TRY_AGAIN_SECONDS = 2.0


class OwnerTurns:
    """A number of turns at a time. Owners have them in rotation, so a caller waits for a turn of each other owner."""

    def __init__(self, at_once: int = 1, pauses: bool = False, wait_max_seconds: float | None = None) -> None:
        """Take the rules.

        Args:
            at_once: turns at a time.
            pauses: True if the next turn begins after a pause that is as long as this one.
            wait_max_seconds: longest wait for a turn; None for any.
        """
        self._free = at_once
        self._pauses = pauses
        self._wait_max_seconds = wait_max_seconds
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Turns that are waited for by owner; the owner whose turn is next comes first."""

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn of this owner, and end it at the end of the context.

        Raises:
            Overloaded: if there is none within the longest wait.
        """
        if self._free:
            self._free -= 1
        else:
            await self._called(owner)
        began_at = time.perf_counter()
        try:
            yield
        finally:
            if self._pauses:
                asyncio.get_running_loop().call_later(time.perf_counter() - began_at, self._pass_on)
            else:
                self._pass_on()

    async def _called(self, owner: str) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        limit = self._wait_max_seconds
        timer = loop.call_later(limit, _give_up, turn) if limit is not None else None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _pass_on(self) -> None:
        while self._waiting:
            owner = next(iter(self._waiting))
            turns = self._waiting.pop(owner)
            turn = turns.popleft()
            if turns:
                self._waiting[owner] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _give_up(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_exception(Overloaded("too many requests of this kind are being answered", TRY_AGAIN_SECONDS))
