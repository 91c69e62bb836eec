"""Documents that take long to write, each written once for what it describes, such as a version of a model."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from starlette.requests import ClientDisconnect

from gateway.fairness.turns import OwnerTurns
from shared.observability.log_context import detached

Subject = TypeVar("Subject")

KEPT_BYTES = 10_000_000
"""Bytes of all kept documents of a kind by default; beyond it the first written go. One of 10,000 features has 1 MB."""

WAIT_SECONDS = 30.0
"""Longest wait of a caller for a turn."""


class WrittenDocuments(Generic[Subject]):
    """Documents of one kind, kept as long as what they describe is in memory and there is room.

    A thread writes them, one at a time, owners in rotation, with pauses: for thousands of features that takes seconds.
    """

    def __init__(self, write: Callable[[Subject], bytes], kept_bytes: int = KEPT_BYTES) -> None:
        """`write` blocks."""
        self._write = write
        self._kept_bytes = kept_bytes
        self._turns = OwnerTurns(pauses=True, wait_max_seconds=WAIT_SECONDS)
        self._kept: WeakKeyDictionary[Subject, bytes] = WeakKeyDictionary()

    async def of(
        self, subject: Subject, owner: str = "", has_left: Callable[[], Awaitable[bool]] | None = None
    ) -> bytes:
        """Return the document of a subject for an owner; `has_left` tells whether the caller has left.

        Raises:
            Overloaded: if too many others are written.
            ClientDisconnect: if the caller left before its turn.
        """
        if (kept := self._kept.get(subject)) is not None:
            return kept
        async with self._turns.of(owner):
            # Another caller may have had it written meanwhile.
            if (kept := self._kept.get(subject)) is not None:
                return kept
            if has_left is not None and await has_left():
                raise ClientDisconnect
            writing = detached(self._written(subject))
            try:
                return await asyncio.shield(writing)
            finally:
                # The turn of a caller who is cancelled goes on as long as the thread does.
                await asyncio.wait([writing])

    async def _written(self, subject: Subject) -> bytes:
        written = await asyncio.to_thread(self._write, subject)
        excess = sum(map(len, self._kept.values())) + len(written) - self._kept_bytes
        for other, document in list(self._kept.items()):
            if excess <= 0:
                break
            excess -= len(document)
            del self._kept[other]
        self._kept[subject] = written
        return written
