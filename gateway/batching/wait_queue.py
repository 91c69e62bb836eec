"""The calls of one model whose rows wait for a batch, and the rules by which they take turns."""

import heapq
from collections import OrderedDict
from collections.abc import Iterator

from gateway.batching.calls import Chunk, WaitingCall
from gateway.errors import Overloaded
from gateway.fairness.budget import Share


class _Line:
    """The waiting calls of one owner, in the order of their turns."""

    __slots__ = ("calls", "is_queued", "taken", "weight", "yielding")

    def __init__(self) -> None:
        self.calls: OrderedDict[WaitingCall, None] = OrderedDict()
        self.weight = 0
        """Weight of the rows that wait."""
        self.yielding = 0
        """Weight of the waiting rows that small calls which come now overtake."""
        self.taken = 0
        """Weight that has left, counted from where the others were when this line was empty."""
        self.is_queued = False
        """True while the line is among those that wait for a turn."""


class WaitQueue:
    """Waiting calls in the order of their turns.

    Owners of API keys get equal parts of the work, measured by the weight of rows: the owner of whose rows the least
    has left goes next (start-time fair queueing, Goyal, Vin and Cheng 1996). Work that an owner was given while no
    other waited does not count against it.

    A call that fits into one batch leaves in one piece. A larger one leaves in chunks, and lets the calls of its owner
    behind it go first once before each further chunk, so that neither starves.
    """

    def __init__(self, batch_rows_max: int) -> None:
        self._batch_rows_max = batch_rows_max
        self._lines: dict[Share, _Line] = {}
        """Lines by the share of their owner, of whom there is a limited number; some may be empty."""
        self._turns: list[tuple[int, int, _Line]] = []
        """Heap of the lines that wait for a turn: what has left of each, the number of its turn, and the line."""
        self._n_turns = 0
        self._taken = 0
        """Where the owners are: what had left of the last one that had a turn, before that turn."""
        self.rows = 0
        """Number of rows that wait."""
        self.weight = 0
        """Weight of the rows that wait."""

    def __bool__(self) -> bool:
        return any(line.calls for _, _, line in self._turns)

    @property
    def next_weight(self) -> int:
        """Weight of the row that leaves next; 1 if none waits."""
        return next((call.next_weight for call in self._calls()), 1)

    def _calls(self) -> Iterator[WaitingCall]:
        return (call for _, _, line in self._turns for call in line.calls if call.waiting)

    def weight_ahead(self, share: Share, weight: int, is_large: bool = False) -> int:
        """Return the weight of the waiting rows that leave before a call of this owner and weight that comes now.

        A large call gives way to others of its owner before each of its chunks, and theirs to a small one.
        """
        own = self._lines.get(share) or _Line()
        ahead = own.weight if is_large else own.weight - own.yielding
        end = max(own.taken, self._taken) + ahead + weight
        for _, _, line in self._turns:
            if line is not own:
                ahead += max(0, min(line.weight, end - line.taken))
        return ahead

    @property
    def most_ahead(self) -> int:
        """Weight of the waiting rows that leave before a row that comes now, of the owner for whom this is most."""
        return max((self.weight_ahead(share, 1) for share, line in self._lines.items() if line.calls), default=0)

    def add(self, call: WaitingCall, batch_weight: int) -> None:
        """Append a call; new calls overtake its rows beyond a first batch of `batch_weight`."""
        line = self._lines.get(call.share)
        if line is None:
            line = self._lines[call.share] = _Line()
        line.calls[call] = None
        weight = call.weight
        self._count(line, call, len(call.rows), weight)
        if weight > batch_weight:
            beyond = weight - max(batch_weight, call.next_weight)
            if beyond > 0:
                self._let_overtake(line, call, beyond)
        if not line.is_queued:
            line.is_queued = True
            line.taken = max(line.taken, self._taken)
            self._n_turns += 1
            heapq.heappush(self._turns, (line.taken, self._n_turns, line))

    def remove(self, call: WaitingCall) -> None:
        """Drop the rows of a call that still wait, if any: the call has ended."""
        if call.waiting:
            line = self._lines[call.share]
            self._count(line, call, -call.waiting, -call.weight)
            self._let_overtake(line, call, 0)
            call.sent = len(call.rows)
            line.calls.pop(call, None)

    def move_times(self, seconds: float) -> None:
        """Move acceptance and deadline of the calls: the clock on which they were read has stepped."""
        for call in self._calls():
            call.accepted_at += seconds
            call.deadline += seconds

    def pop_batch(self, limit: int, earliest_deadline: float, retry_after_seconds: float) -> list[Chunk]:
        """Take the chunks of the next batch, which weigh `limit` at most unless one row weighs more.

        A call with a deadline before `earliest_deadline` (a time of the broker's clock) ends with Overloaded and
        `retry_after_seconds`: others can still be answered in time, and if the oldest call went first in any case,
        every answer would come too late.
        """
        chunks: list[Chunk] = []
        while self._turns and limit > 0:
            line = self._turns[0][2]
            if not line.calls:
                line.is_queued = False
                heapq.heappop(self._turns)
                continue
            call, _ = line.calls.popitem(last=False)
            if call.deadline < earliest_deadline:
                call.end(Overloaded("its turn came too late", retry_after_seconds))
            elif call.sent and line.calls and not call.gave_way:
                call.gave_way = True
                line.calls[call] = None
            elif chunks and not self._fits(call, limit):
                line.calls[call] = None
                line.calls.move_to_end(call, last=False)
                break
            else:
                chunk = self._take_chunk(line, call, limit)
                limit -= chunk.weight
                chunks.append(chunk)
        return chunks

    def _fits(self, call: WaitingCall, limit: int) -> bool:
        """Return True if all that waits of a call weighs `limit` at most; if that is no batch, one row."""
        return call.weight <= limit or (call.weight > self._batch_rows_max and call.next_weight <= limit)

    def _take_chunk(self, line: _Line, call: WaitingCall, limit: int) -> Chunk:
        """Take the call's next rows; the rest is appended, and overtaken by calls that come now."""
        chunk = call.take(limit)
        self._count(line, call, -chunk.n_rows, -chunk.weight)
        rest = call.weight
        if rest or call.yielding:
            self._let_overtake(line, call, rest)
        if rest:
            line.calls[call] = None
        self._taken = max(self._taken, line.taken)
        line.taken += chunk.weight
        self._n_turns += 1
        heapq.heapreplace(self._turns, (line.taken, self._n_turns, line))
        return chunk

    def _let_overtake(self, line: _Line, call: WaitingCall, weight: int) -> None:
        """Set the weight of the call's rows that calls of its owner which come now overtake."""
        line.yielding += weight - call.yielding
        call.yielding = weight

    def _count(self, line: _Line, call: WaitingCall, rows: int, weight: int) -> None:
        self.rows += rows
        self.weight += weight
        line.weight += weight
        call.share.add(rows)
