"""The calls of one model whose rows wait for a batch, and the rules by which they take turns."""

from collections import OrderedDict

from gateway.batching.calls import Chunk, WaitingCall
from gateway.errors import Overloaded


class WaitQueue:
    """Waiting calls in the order of their turns, and the number of their rows.

    A call that fits into one batch leaves in one piece. A larger one leaves in chunks, and lets the calls behind it
    go first once before each further chunk, so that neither starves.
    """

    def __init__(self, batch_rows_max: int) -> None:
        self._batch_rows_max = batch_rows_max
        self._calls: OrderedDict[WaitingCall, None] = OrderedDict()
        self.rows = 0
        """Number of rows that wait."""
        self._yielding_rows = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    @property
    def rows_ahead(self) -> int:
        """Number of waiting rows that leave before a small call that comes now."""
        return self.rows - self._yielding_rows

    def add(self, call: WaitingCall, batch_rows: int) -> None:
        """Append a call; new calls overtake its rows beyond a first batch of `batch_rows`."""
        self._calls[call] = None
        self._count(call, len(call.rows))
        if len(call.rows) > batch_rows:
            self._let_overtake(call, len(call.rows) - batch_rows)

    def remove(self, call: WaitingCall) -> None:
        """Drop the rows of a call that still wait, if any: the call has ended."""
        if call.waiting:
            self._count(call, -call.waiting)
            self._let_overtake(call, 0)
            call.sent = len(call.rows)
            self._calls.pop(call, None)

    def move_times(self, seconds: float) -> None:
        """Move acceptance and deadline of the calls: the clock on which they were read has stepped."""
        for call in self._calls:
            call.accepted_at += seconds
            call.deadline += seconds

    def pop_batch(self, limit: int, earliest_deadline: float, retry_after_seconds: float) -> list[Chunk]:
        """Take the chunks of the next batch, at most `limit` rows.

        Calls that have an answer already are dropped. A call with a deadline before `earliest_deadline` (a time of
        the broker's clock) ends with Overloaded and `retry_after_seconds`: others can still be answered in time, and
        if the oldest call went first in any case, every answer would come too late.
        """
        chunks: list[Chunk] = []
        while self._calls and limit > 0:
            call, _ = self._calls.popitem(last=False)
            if call.answer.done():
                continue
            if call.deadline < earliest_deadline:
                call.answer.set_exception(Overloaded("its turn came too late", retry_after_seconds))
            elif call.sent and self._should_give_way(call):
                call.gave_way = True
                self._calls[call] = None
            elif chunks and self._should_stay_whole(call, limit):
                self._put_first(call)
                break
            else:
                chunk = self._take_chunk(call, limit)
                limit -= chunk.n_rows
                chunks.append(chunk)
        return chunks

    def _should_give_way(self, call: WaitingCall) -> bool:
        """Return True if the rest of a large call has not let the calls behind it go first yet."""
        return bool(self._calls) and not call.gave_way

    def _should_stay_whole(self, call: WaitingCall, limit: int) -> bool:
        """Return True if the waiting rows fit into one batch, but not into the `limit` rows left of this one."""
        return limit < call.waiting <= self._batch_rows_max

    def _put_first(self, call: WaitingCall) -> None:
        self._calls[call] = None
        self._calls.move_to_end(call, last=False)

    def _take_chunk(self, call: WaitingCall, limit: int) -> Chunk:
        """Take the call's next rows; the rest is appended, and overtaken by calls that come now."""
        chunk = call.take(limit)
        self._count(call, -chunk.n_rows)
        rest = call.waiting
        if rest or call.yielding:
            self._let_overtake(call, rest)
        if rest:
            self._calls[call] = None
        return chunk

    def _let_overtake(self, call: WaitingCall, rows: int) -> None:
        """Set the number of the call's rows that calls which come now overtake."""
        self._yielding_rows += rows - call.yielding
        call.yielding = rows

    def _count(self, call: WaitingCall, rows: int) -> None:
        self.rows += rows
        call.share.add(rows)
