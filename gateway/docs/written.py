"""OpenAPI documents as JSON, each written once for a version of a model."""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from gateway.catalog.served_model import ServedModel
from gateway.fairness.turns import OwnerTurns

KEPT_BYTES = 50_000_000
"""Bytes of all kept documents of a kind; beyond it the first written go. One of 10,000 features has some 5 MB."""

WAIT_SECONDS = 30.0
"""Longest wait of a caller for a turn."""


class WrittenDocuments:
    """Documents of one kind by version, kept as long as the version is in memory and there is room.

    A thread writes them, one at a time, owners in rotation, with pauses: for thousands of features that takes seconds.
    """

    def __init__(self, describe: Callable[[ServedModel], dict[str, Any]]) -> None:
        """`describe` makes a document, and blocks."""
        self._describe = describe
        self._turns = OwnerTurns(pauses=True, wait_max_seconds=WAIT_SECONDS)
        self._kept: WeakKeyDictionary[ServedModel, bytes] = WeakKeyDictionary()

    async def json(self, served: ServedModel, owner: str = "") -> bytes:
        """Return the document for a version.

        Raises:
            Overloaded: if too many others are written.
        """
        if (kept := self._kept.get(served)) is not None:
            return kept
        async with self._turns.of(owner):
            # Another caller may have had it written meanwhile.
            if (kept := self._kept.get(served)) is not None:
                return kept
            written = await asyncio.to_thread(lambda: orjson.dumps(self._describe(served)))
            self._keep(served, written)
            return written

    def _keep(self, served: ServedModel, written: bytes) -> None:
        excess = sum(map(len, self._kept.values())) + len(written) - KEPT_BYTES
        for other, document in list(self._kept.items()):
            if excess <= 0:
                break
            excess -= len(document)
            del self._kept[other]
        self._kept[served] = written
