"""Turns at work of which little is done at a time, so that no owner of API keys shuts the others out."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from gateway.errors import Overloaded
from shared.observability.log_context import detached

Result = TypeVar("Result")

TRY_AGAIN_SECONDS = 2.0


class SharedWork(Generic[Result]):
    """Work whose result is for all who have asked before it begins; the next begins after a pause as long as it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        """`work` blocks the event loop."""
        self._work = work
        self._next: asyncio.Task[Result] | None = None
        self._free_at = float("-inf")

    async def result(self) -> Result:
        """Return the result of the next work."""
        if self._next is None:
            self._next = detached(self._do())
        return await asyncio.shield(self._next)

    async def _do(self) -> Result:
        await asyncio.sleep(max(0.0, self._free_at - time.perf_counter()))
        self._next, began_at = None, time.perf_counter()
        try:
            return self._work()
        finally:
            ended_at = time.perf_counter()
            self._free_at = ended_at + (ended_at - began_at)


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
    async def of(self, owner: str, wait_max_seconds: float | None = None) -> AsyncIterator[None]:
        """Wait for a turn of this owner, and end it at the end of the context.

        Raises:
            Overloaded: if there is none within the longest wait, by default that of all.
        """
        if self._free:
            self._free -= 1
        else:
            await self._called(owner, self._wait_max_seconds if wait_max_seconds is None else wait_max_seconds)
        began_at = time.perf_counter()
        try:
            yield
        finally:
            if self._pauses:
                asyncio.get_running_loop().call_later(time.perf_counter() - began_at, self._pass_on, owner)
            else:
                self._pass_on(owner)

    def others_wait(self, owner: str) -> bool:
        """Return True if another owner waits for a turn."""
        return any(not turn.done() for each, turns in self._waiting.items() if each != owner for turn in turns)

    async def _called(self, owner: str, limit: float | None) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        timer = loop.call_later(limit, _give_up, turn) if limit is not None else None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(owner)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _pass_on(self, before: str) -> None:
        """Give a turn to an owner, to the one that had it before only if no other waits."""
        while self._waiting:
            owner = next((each for each in self._waiting if each != before), before)
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
