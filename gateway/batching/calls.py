"""A caller's rows on their way through the queue: whole or in chunks, in batches, and the answer made of results."""

import asyncio
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.batching.slots import Permit
from gateway.fairness.budget import Share
from shared.queue.contract import BatchReply, Row
from shared.queue.replies import PACKED, as_packed, as_text

if TYPE_CHECKING:
    from gateway.tracing import RequestTrace


class Answer(NamedTuple):
    """A call's result.

    `started_at` is the time on the broker's clock at which the first chunk was started, `compute_seconds` the time in
    which at least one of the batches that held a chunk was computed. A call that failed has the error of the chunk that
    failed first.
    """

    result: dict[str, Any]
    accepted_at: float
    started_at: float
    compute_seconds: float


OnEnd = Callable[[Answer | Exception], None]
"""Receiver of the answer to a call, or of the error that the call ended with."""


@dataclass(eq=False, slots=True)
class WaitingCall:
    """A call without an answer; its rows from `sent` on wait for a batch. Times are seconds of the broker's clock."""

    rows: Sequence[Row]
    accepted_at: float
    deadline: float
    on_end: OnEnd
    share: Share
    """Share of its owner, against which the waiting rows count."""
    remove: "Callable[[WaitingCall], None]"
    """Drops the rows of a call that still wait."""
    trace: "RequestTrace | None" = None
    takes_bytes: bool = False
    """True if its caller takes probabilities as bytes."""
    weights: Sequence[int] | None = None
    """Sum of the weights of the first row, of the first two, and so on; None if each row weighs 1."""
    sent: int = 0
    """Number of rows that are in a batch, or will never be sent."""
    gave_way: bool = False
    """True if the call has let the others of its owner go first since its last chunk."""
    yielding: int = 0
    """Weight of the waiting rows that calls of its owner which come now overtake."""
    answered: int = 0
    """Number of rows whose chunks are answered."""
    parts: dict[int, Answer] = field(default_factory=dict)
    """The answers to the chunks, by the position of each chunk's first row."""
    expiry: asyncio.TimerHandle | None = None
    """Timer of the deadline."""
    ended: bool = False
    """True once the call has an answer or an error, or nobody waits for one."""

    @property
    def waiting(self) -> int:
        """Number of rows that wait for a batch."""
        return len(self.rows) - self.sent

    @property
    def weight(self) -> int:
        """Weight of the rows that wait for a batch."""
        return self.waiting if self.weights is None else self.weights[-1] - self._sent_weight

    @property
    def next_weight(self) -> int:
        """Weight of the next row that leaves, while one waits."""
        return 1 if self.weights is None else self.weights[self.sent] - self._sent_weight

    @property
    def _sent_weight(self) -> int:
        return self.weights[self.sent - 1] if self.weights and self.sent else 0

    def end(self, outcome: Answer | Exception | None) -> None:
        """End the call, unless it has ended; its caller, if there still is one, hears of it in the next turn."""
        if self.ended:
            return
        self.ended = True
        if self.expiry is not None:
            self.expiry.cancel()
        if self.sent < len(self.rows):
            self.remove(self)
        if outcome is not None:
            asyncio.get_running_loop().call_soon(self.on_end, outcome)

    def take(self, weight_max: int) -> "Chunk":
        """Take the next rows for a batch: one in any case, and others until they weigh `weight_max`."""
        if self.weights is None:
            n_rows = weight = min(self.waiting, weight_max)
        else:
            n_rows = max(1, bisect_right(self.weights, self._sent_weight + weight_max) - self.sent)
            weight = self.weights[self.sent + n_rows - 1] - self._sent_weight
        chunk = Chunk(self, self.sent, n_rows, weight)
        self.sent += n_rows
        self.gave_way = False
        return chunk


class Chunk(NamedTuple):
    """The part of a call that is in one batch: the whole call unless that is large."""

    call: WaitingCall
    start: int
    n_rows: int
    weight: int

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the chunk."""
        return self.call.rows[self.start : self.start + self.n_rows]

    def settle(self, result: dict[str, Any], reply: BatchReply) -> None:
        """Take the result of this chunk; answer the call if the chunk failed, or was the last one without a result."""
        call = self.call
        if call.ended:
            return
        part = Answer(result, call.accepted_at, reply.started_at, reply.compute_seconds)
        try:
            answer = part if self.n_rows == len(call.rows) else self._joined(part)
        except Exception as error:
            # No worker has written such a result. It ends this call, and neither the reply nor those behind it.
            call.end(error)
            return
        if answer is not None:
            call.end(answer)

    def _joined(self, part: Answer) -> Answer | None:
        """Join the parts of the call; return None while chunks are missing and none has failed."""
        call = self.call
        call.parts[self.start] = part
        call.answered += self.n_rows
        parts = [call.parts[start] for start in sorted(call.parts)]
        if "error" in part.result:
            error = part.result["error"]
            result = {"error": {**error, "rows": [self.start + at for at in error["rows"]]}}
        elif call.answered < len(call.rows):
            return None
        else:
            result = _concatenated([each.result for each in parts])
        # The worker counts the wait of a call with its first chunk, also if a later chunk was started before it.
        return Answer(result, call.accepted_at, parts[0].started_at, _computing_seconds(parts))


@dataclass(slots=True)
class Batch:
    """A batch in flight."""

    permit: Permit
    chunks: list[Chunk]
    """Its parts of calls; none once it is late."""
    weight: int
    heaviest: int
    """Weight of the heaviest row, about: in a chunk of many, the mean counts."""
    left_at: float
    """Time at which the batch left, on the clock of RowWaitEstimate."""

    def fail(self, failure: Callable[[], Exception]) -> None:
        """Give the failure to all callers that still wait."""
        for chunk in self.chunks:
            chunk.call.end(failure())

    def be_late(self, failure: Callable[[], Exception]) -> None:
        """Forget the rows and the callers; the slot is busy until the batch is answered or lost."""
        self.fail(failure)
        self.chunks = []
        self.permit.mark_late()


def _computing_seconds(parts: list[Answer]) -> float:
    """Return the time in which at least one part was computed; several slots may work on a call at a time."""
    seconds, until = 0.0, -math.inf
    for part in sorted(parts, key=lambda part: part.started_at):
        # Times of day are exact to a quarter of a microsecond only: what does not overlap is not computed from them.
        overlap = max(0.0, until - part.started_at)
        seconds += max(0.0, part.compute_seconds - overlap)
        until = max(until, part.started_at + part.compute_seconds)
    return seconds


def _concatenated(results: list[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for name in results[0]:
        values = [result[name] for result in results]
        if values[0] is None:
            joined[name] = None
        elif any(isinstance(value, str) for value in values):
            joined[name] = ",".join(map(as_text, values))
        elif any(isinstance(value, dict) for value in values):
            joined[name] = {PACKED: [*chain.from_iterable(as_packed(value)[PACKED] for value in values)]}
        else:
            joined[name] = [*chain.from_iterable(values)]
    return joined
