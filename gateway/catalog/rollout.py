"""Second versions on trial: who is answered by one (split), and which rows one is asked too (shadow)."""

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis.asyncio import Redis

from gateway.broker.batch_client import BatchClient
from gateway.broker.workers import Workers
from shared.queue.contract import Lane, Row, ShadowMessage, queue_name

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
ROWS_PER_TASK = 512
ROWS_WAITING_MAX = 20_000

BACKLOG_MAX = 50
"""Tasks in the bulk lane beyond which shadows are left out: they must not hold up jobs."""

Version = TypeVar("Version")


@dataclass(frozen=True)
class Trials(Generic[Version]):
    """What an alias' traffic is shared with, as far as the workers are ready for it."""

    split: Version | None = None
    split_share: float = 0.0
    shadow: Version | None = None
    shadow_share: float = 0.0

    def answers(self, primary: Version, name: str, key: str) -> Version:
        """The version that answers; the same one for the same key (of a user, a session) while shares stay."""
        if self.split is not None and _fraction(name, key) < self.split_share:
            return self.split
        return primary

    def shadows(self) -> Version | None:
        """The version that is asked too, for a share of the calls of this."""
        return self.shadow if self.shadow is not None and random.random() < self.shadow_share else None


def _fraction(name: str, key: str) -> float:
    """Where a key lies between 0 and 1; without a key, anywhere."""
    if not key:
        return random.random()
    digest = hashlib.sha256(f"{name}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass
class _Pile:
    rows: list[Row]
    predictions: list[Any]


class Shadows:
    """Collects answered rows and sends them to versions on trial, on the bulk lane; drops what is too much."""

    def __init__(
        self, redis: Redis, batch_client: BatchClient, workers: Workers, dropped: Callable[[int], None]
    ) -> None:
        self._redis = redis
        self._batch_client = batch_client
        self._workers = workers
        self._dropped = dropped
        self._piles: dict[tuple[str, str, str], _Pile] = {}
        self._rows = 0

    def add(self, model: str, version: str, primary: str, rows: list[Row], predictions: list[Any]) -> None:
        """Rows of `model` that version `primary` answered, to be asked of `version`."""
        if self._rows + len(rows) > ROWS_WAITING_MAX:
            self._dropped(len(rows))
            return
        pile = self._piles.setdefault((model, version, primary), _Pile([], []))
        pile.rows += rows
        pile.predictions += predictions
        self._rows += len(rows)

    async def step(self) -> None:
        """Send what was collected, then pause: a background loop's step."""
        for key in list(self._piles):
            pile = self._piles.pop(key)
            self._rows -= len(pile.rows)
            try:
                await self._send(*key, pile)
            except Exception:
                self._dropped(len(pile.rows))
                raise
        await asyncio.sleep(FLUSH_SECONDS)

    async def _send(self, model: str, version: str, primary: str, pile: _Pile) -> None:
        pool = self._workers.group_for(model)
        backlog = await self._redis.llen(queue_name(Lane.BULK, pool))
        if backlog > BACKLOG_MAX:
            self._dropped(len(pile.rows))
            return
        for start in range(0, len(pile.rows), ROWS_PER_TASK):
            part = slice(start, start + ROWS_PER_TASK)
            message = ShadowMessage(
                model=model,
                version=version,
                primary=primary,
                rows=pile.rows[part],
                predictions=pile.predictions[part],
            )
            await self._batch_client.publish(message, pool)
