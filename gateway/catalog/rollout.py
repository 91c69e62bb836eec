"""Trials of second versions: a split answers a share of the callers, a shadow gets a copy of a share of the rows."""

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis.asyncio import Redis

from gateway.broker.batch_client import BatchClient
from gateway.broker.workers import Workers
from shared.queue.contract import Lane, Row, ShadowMessage, queue_name

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
ROWS_PER_ENTRY = 512
ROWS_WAITING_MAX = 20_000

BACKLOG_MAX = 50
"""Entries in the bulk lane above which shadow rows are dropped: they must not hold up jobs."""

Version = TypeVar("Version")


@dataclass(frozen=True)
class RunningTrial(Generic[Version]):
    """A version on trial for which the workers are ready, and its share of the requests, from 0 to 1."""

    version: Version
    share: float


@dataclass(frozen=True)
class Rollout(Generic[Version]):
    """The running trials of an alias."""

    split: RunningTrial[Version] | None = None
    shadow: RunningTrial[Version] | None = None

    @property
    def trials(self) -> Mapping[str, RunningTrial[Version]]:
        """Trials by their kind, `split` or `shadow`."""
        return {kind: trial for kind, trial in (("split", self.split), ("shadow", self.shadow)) if trial is not None}

    def choose(self, primary: Version, name: str, key: str) -> Version:
        """Choose the version that answers; the same for the same key (of a user, of a session) while shares stay."""
        if self.split is not None and _fraction(name, key) < self.split.share:
            return self.split.version
        return primary

    def draw_shadow(self) -> Version | None:
        """Draw whether a request's rows go to the shadow too; return the shadow if they do."""
        return self.shadow.version if self.shadow is not None and random.random() < self.shadow.share else None


def _fraction(name: str, key: str) -> float:
    """Map a key to a number from 0 to 1; without a key the number is random."""
    if not key:
        return random.random()
    digest = hashlib.sha256(f"{name}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass
class _Pile:
    rows: list[Row]
    predictions: list[Any]


class Shadows:
    """Rows that were answered, collected for versions on trial and sent to them in the bulk lane."""

    def __init__(
        self, redis: Redis, batch_client: BatchClient, workers: Workers, count_dropped: Callable[[int], None]
    ) -> None:
        self._redis = redis
        self._batch_client = batch_client
        self._workers = workers
        self._count_dropped = count_dropped
        self._piles: dict[tuple[str, str, str], _Pile] = {}
        self._rows = 0

    def add(self, model: str, version: str, primary: str, rows: list[Row], predictions: list[Any]) -> None:
        """Collect rows of `model` that version `primary` answered, for `version`; too many rows are dropped."""
        if self._rows + len(rows) > ROWS_WAITING_MAX:
            self._count_dropped(len(rows))
            return
        pile = self._piles.setdefault((model, version, primary), _Pile([], []))
        pile.rows += rows
        pile.predictions += predictions
        self._rows += len(rows)

    async def step(self) -> None:
        """Send the collected rows, then pause: a step of a background loop."""
        for key in list(self._piles):
            pile = self._piles.pop(key)
            self._rows -= len(pile.rows)
            try:
                await self._send(*key, pile)
            except Exception:
                self._count_dropped(len(pile.rows))
                raise
        await asyncio.sleep(FLUSH_SECONDS)

    async def _send(self, model: str, version: str, primary: str, pile: _Pile) -> None:
        group = self._workers.group_for(model)
        backlog = await self._redis.llen(queue_name(Lane.BULK, group))
        if backlog > BACKLOG_MAX:
            self._count_dropped(len(pile.rows))
            return
        for start in range(0, len(pile.rows), ROWS_PER_ENTRY):
            part = slice(start, start + ROWS_PER_ENTRY)
            message = ShadowMessage(
                model=model,
                version=version,
                primary=primary,
                rows=pile.rows[part],
                predictions=pile.predictions[part],
            )
            await self._batch_client.publish(message, group)
