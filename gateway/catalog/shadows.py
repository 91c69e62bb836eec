"""Shadows: copies of answered rows for versions on trial, one entry of the bulk lane at a time, to hold up no job."""

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis

from gateway.broker.batch_client import BatchClient
from gateway.broker.workers import Workers
from gateway.catalog.row_parser import ParsedRows
from gateway.catalog.served_model import ServedModel
from headrace.models.alias import mismatch
from headrace.models.manifest import Manifest
from shared.observability.log_limit import LogLimit
from shared.queue import keys
from shared.queue.contract import Lane, Row, ShadowMessage, queue_name

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
POLL_SECONDS = 0.05
"""Pause between two looks whether the next entry may leave."""

ENTRY_SECONDS = 1.0
"""Time that an entry should take at most: the next one has as many rows as would have taken this long."""

ENTRY_ROWS_FIRST, ENTRY_ROWS_MAX = 32, 512
"""Rows of an entry at most, at first and later."""

ENTRY_BYTES_MAX = 1_000_000
"""Memory of the rows of an entry; with its texts escaped it may be four times as large."""

PILE_ROWS_MAX, PILE_BYTES_MAX = 5_000, 8_000_000
"""Rows that wait for an entry, of one version that answered and one shadow; further ones are dropped."""

ROWS_WAITING_MAX, BYTES_WAITING_MAX = 20_000, 32_000_000
"""Likewise of all versions together, in a gateway process."""

LINES_PER_MINUTE = 5
"""Log lines about shadows that get no rows."""


@dataclass(eq=False)
class _Pile:
    """Rows that one version answered, in the form of another one's, and the way from the one to the other."""

    model: str
    version: str
    primary: str
    mismatch: str | None
    columns: Callable[[Row], Any] | None
    """Puts the values of a row into the shadow's order; None if that is the same."""
    outputs: Callable[[list[Any]], Any] | None
    """Likewise of the values of a prediction."""
    filled: list[int]
    """Positions where only the version that answered takes null."""
    prediction_bytes: int
    entry_rows: int = ENTRY_ROWS_FIRST
    rows: list[Row] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Memory of each row with its prediction in bytes: the mean of its request."""
    bytes: int = 0

    @classmethod
    def of(cls, answered: Manifest, shadow: Manifest) -> "_Pile":
        """Return an empty pile for a pair of versions."""
        reason = mismatch(answered, shadow)
        columns = outputs = None
        filled: list[int] = []
        if reason is None:
            columns = _reordered([each.name for each in answered.features], [each.name for each in shadow.features])
            if len(shadow.outputs) > 1:
                outputs = _reordered([each.name for each in answered.outputs], [each.name for each in shadow.outputs])
            nullable = {each.name for each in answered.features if each.nullable}
            filled = [at for at, each in enumerate(shadow.features) if each.name in nullable and not each.nullable]
        value_bytes = [max(map(sys.getsizeof, output.classes or [0])) for output in answered.outputs]
        prediction_bytes = 64 + sum(8 + each for each in value_bytes)
        return cls(shadow.name, shadow.version, answered.version, reason, columns, outputs, filled, prediction_bytes)

    def put(self, rows: Sequence[Row], predictions: list[Any], row_bytes: int) -> int:
        """Add rows in the shadow's form, without those that it would refuse for a null; return their number."""
        if self.columns is not None:
            rows = [*map(list, map(self.columns, rows))]
        if self.outputs is not None:
            predictions = [*map(list, map(self.outputs, predictions))]
        if self.filled:
            kept = [at for at, row in enumerate(rows) if None not in [row[position] for position in self.filled]]
            rows, predictions = [rows[at] for at in kept], [predictions[at] for at in kept]
        self.rows += rows
        self.predictions += predictions
        self.sizes += [row_bytes] * len(rows)
        self.bytes += row_bytes * len(rows)
        return len(rows)

    def take(self) -> tuple[ShadowMessage, int]:
        """Take the rows of the next entry; return its message, and the memory of the rows in bytes."""
        n_rows = size = 0
        for row_bytes in self.sizes[: self.entry_rows]:
            if n_rows and size + row_bytes > ENTRY_BYTES_MAX:
                break
            n_rows, size = n_rows + 1, size + row_bytes
        message = ShadowMessage(
            model=self.model,
            version=self.version,
            primary=self.primary,
            rows=self.rows[:n_rows],
            predictions=self.predictions[:n_rows],
        )
        del self.rows[:n_rows], self.predictions[:n_rows], self.sizes[:n_rows]
        self.bytes -= size
        return message, size


def _reordered(names: list[str], wanted: list[str]) -> Callable[[list[Any]], Any] | None:
    # Other than equal lists of the same names have two at least, so itemgetter returns a tuple.
    at = {name: position for position, name in enumerate(names)}
    return None if names == wanted else itemgetter(*(at[name] for name in wanted))


@dataclass(frozen=True)
class _Sent:
    """An entry that waits in its queue or is computed."""

    pile: _Pile
    n_rows: int
    token: bytes
    at: float


class Shadows:
    """Rows that were answered, collected for versions on trial and sent to them in the bulk lane.

    The lane is first in, first out, so an entry holds up the jobs behind it. Of each worker group there is one at a
    time, whatever the number of gateways: a lock says so, which the worker gives back at its end. It leaves only while
    no job waits, and is small if the shadow is slow.
    """

    def __init__(
        self,
        redis: Redis,
        batch_client: BatchClient,
        workers: Workers,
        lease_seconds: float,
        count_dropped: Callable[[int], None],
    ) -> None:
        """`lease_seconds` is the time after which an entry is taken for lost, with its worker."""
        self._redis = redis
        self._batch_client = batch_client
        self._workers = workers
        self._lease_seconds = lease_seconds
        self._count_dropped = count_dropped
        self._pairs: WeakKeyDictionary[ServedModel, WeakKeyDictionary[ServedModel, _Pile]] = WeakKeyDictionary()
        """A pile by its shadow and by the version that answered."""
        self._piles: list[_Pile] = []
        """Piles with rows; the first is the next to send some."""
        self._sent: dict[str, _Sent] = {}
        """The entry of this process in each queue."""
        self._rows = self._bytes = 0
        self._lines = LogLimit(LINES_PER_MINUTE, 60.0)

    def add(self, answered: ServedModel, shadow: ServedModel, parsed: ParsedRows, predictions: list[Any]) -> None:
        """Collect rows that one version answered for another one; rows that it can't take, or too many, are dropped."""
        n_rows, pile = len(parsed.rows), self._pile_of(answered, shadow)
        taken = 0
        if pile.mismatch is None:
            row_bytes = parsed.memory_bytes // n_rows + pile.prediction_bytes
            rows_left = min(PILE_ROWS_MAX - len(pile.rows), ROWS_WAITING_MAX - self._rows)
            bytes_left = min(PILE_BYTES_MAX - pile.bytes, BYTES_WAITING_MAX - self._bytes)
            fitting = max(0, min(rows_left, bytes_left // row_bytes))
            taken = pile.put(parsed.rows[:fitting], predictions[:fitting], row_bytes)
            self._rows += taken
            self._bytes += taken * row_bytes
            if taken and pile not in self._piles:
                self._piles.append(pile)
        elif (before := self._lines.admit()) is not None:
            logger.warning("%s %s gets no rows as a shadow: %s%s", pile.model, pile.version, pile.mismatch, before)
        if taken < n_rows:
            self._count_dropped(n_rows - taken)

    def _pile_of(self, answered: ServedModel, shadow: ServedModel) -> _Pile:
        by_primary = self._pairs.setdefault(shadow, WeakKeyDictionary())
        pile = by_primary.get(answered)
        if pile is None:
            pile = by_primary[answered] = _Pile.of(answered.manifest, shadow.manifest)
        return pile

    async def step(self) -> None:
        """Send an entry to each worker group that has none and for which rows wait, then pause: a background loop's."""
        for queue, sent in list(self._sent.items()):
            if await self._redis.get(keys.shadow_lock(queue)) != sent.token:
                del self._sent[queue]
                fitting = int(sent.n_rows * ENTRY_SECONDS / max(1e-3, time.monotonic() - sent.at))
                sent.pile.entry_rows = max(1, min(fitting, ENTRY_ROWS_MAX))
        asked: set[str] = set()
        for pile in list(self._piles):
            group = self._workers.group_for(pile.model)
            queue = queue_name(Lane.BULK, group)
            if queue not in self._sent and queue not in asked:
                asked.add(queue)
                await self._send(pile, group, queue)
        await asyncio.sleep(POLL_SECONDS if self._piles or self._sent else FLUSH_SECONDS)

    async def _send(self, pile: _Pile, group: str, queue: str) -> None:
        token, lock = uuid.uuid4().hex, keys.shadow_lock(queue)
        if await self._redis.llen(queue):
            return
        if not await self._redis.set(lock, token, nx=True, px=int(self._lease_seconds * 1000)):
            return
        message, size = pile.take()
        n_rows = len(message.rows)
        self._rows -= n_rows
        self._bytes -= size
        self._piles.remove(pile)
        if pile.rows:
            # Others of the group first.
            self._piles.append(pile)
        entry = self._batch_client.queue_entry(message, group)
        if len(entry) > 4 * ENTRY_BYTES_MAX:
            self._count_dropped(n_rows)
            await self._redis.pexpire(lock, 0)
            return
        self._sent[queue] = _Sent(pile, n_rows, token.encode(), time.monotonic())
        try:
            await self._redis.lpush(queue, entry)
        except Exception:
            self._count_dropped(n_rows)
            raise
