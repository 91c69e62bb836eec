"""A caller's rows on their way: whole or in chunks, and the one answer that comes of them."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.queue.contract import BatchReply, Row

if TYPE_CHECKING:
    from gateway.tracing import RequestTrace


@dataclass(frozen=True, slots=True)
class Answer:
    """A call's result.

    `started_at` is when its first chunk was started, on the broker's clock; `compute_seconds` the compute time of the
    batches that it was in, added up. A call that failed has the error of the chunk that failed first.
    """

    result: dict[str, Any]
    accepted_at: float
    started_at: float
    compute_seconds: float


@dataclass(eq=False, slots=True)
class Waiting:
    """A call that is not answered; its rows from `taken` on wait for a batch. Times are the broker's."""

    rows: list[Row]
    accepted_at: float
    deadline: float
    answer: "asyncio.Future[Answer]"
    trace: "RequestTrace | None" = None
    taken: int = 0
    gave_way: bool = False
    """Whether others went before its next chunk already."""
    overtaken: int = 0
    """Rows of it that do not keep those waiting who come now: they go before them."""
    answered: int = 0
    parts: dict[int, Answer] = field(default_factory=dict)
    """The answers to its chunks, by the position of their first row."""

    @property
    def left(self) -> int:
        """How many rows wait."""
        return len(self.rows) - self.taken

    def take(self, n_rows_max: int) -> "Chunk":
        """The next rows, for a batch."""
        chunk = Chunk(self, self.taken, min(self.left, n_rows_max))
        self.taken += chunk.n_rows
        self.gave_way = False
        return chunk


@dataclass(frozen=True, slots=True)
class Chunk:
    """The part of a call that is in one batch: all of it unless it is large."""

    call: Waiting
    start: int
    n_rows: int

    @property
    def rows(self) -> list[Row]:
        """Its rows."""
        return self.call.rows[self.start : self.start + self.n_rows]

    def settle(self, result: dict[str, Any], reply: BatchReply) -> None:
        """Take the answer to this chunk; the call has its own when one chunk has failed, or all are answered."""
        call = self.call
        if call.answer.done():
            return
        part = Answer(result, call.accepted_at, reply.started_at, reply.compute_seconds)
        answer = part if self.n_rows == len(call.rows) else self._joined(part)
        if answer is not None:
            call.answer.set_result(answer)

    def _joined(self, part: Answer) -> Answer | None:
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
        # The worker counts the wait of a call with its first chunk, whether or not another overtook it.
        return Answer(result, call.accepted_at, parts[0].started_at, sum(each.compute_seconds for each in parts))


def _concatenated(results: list[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for name, value in results[0].items():
        joined[name] = None if value is None else [each for result in results for each in result[name]]
    return joined
