"""Natural batching: rows that arrive while earlier batches are in flight leave together as one task.

No timer: a lone request goes at once. Celery costs about 2 ms per task, whatever it holds, so it is paid per batch.
A request of more rows than a batch takes leaves in chunks; between two of them everyone else has a turn.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway.admission.jobs import ADMITTED_SHARE, WaitingRows
from gateway.admission.wait_estimates import RowsWait
from gateway.batching.calls import Answer, Chunk, Waiting
from gateway.batching.cost_model import BatchCost
from gateway.batching.slots import Slot, Slots, WorkerGroups
from gateway.broker.batch_client import BatchClient
from gateway.broker.celery_message import Traces
from gateway.errors import BrokerUnavailable, DeadlineExceeded, NoWorker, Overloaded, QueueFull
from gateway.settings import GatewaySettings
from headrace.models.manifest import Manifest
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, Call, Lane, PredictMessage, Row, packed

if TYPE_CHECKING:
    from gateway.tracing import RequestTrace

SPREAD_SECONDS = 0.002
"""Compute time below which rows are not divided over free slots: a task of its own would cost more."""

PACKED_ROWS_MIN = 16
"""Rows above which a batch of numbers is packed; of few rows the JSON is as quick, and can be read by eye."""

REPLY_GRACE_SECONDS = 0.5
"""How long after the last deadline of a batch its slot is given up for lost."""


@dataclass(slots=True)
class _Batch:
    """A batch in flight."""

    slot: Slot
    chunks: list[Chunk]
    left_at: float
    """As RowsWait has it."""


class Batcher:
    """The interactive lane of one model version in this process."""

    def __init__(
        self,
        manifest: Manifest,
        batch_client: BatchClient,
        worker_groups: WorkerGroups,
        clock: BrokerClock,
        everywhere: WaitingRows,
        settings: GatewaySettings,
    ) -> None:
        self._manifest = manifest
        self._only_numbers = all(feature.type == "number" for feature in manifest.features)
        self._batch_client = batch_client
        self._worker_groups = worker_groups
        self._clock = clock
        self._everywhere = everywhere
        self._settings = settings
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()
        self.waiting_rows = 0
        self._overtaken_rows = 0
        self._in_flight: dict[int, _Batch] = {}
        self._cost = BatchCost()
        self._wait = RowsWait()
        self._publishing: set[asyncio.Task[None]] = set()

    @property
    def model(self) -> str:
        """The model's name."""
        return self._manifest.name

    @property
    def slow(self) -> bool:
        """Whether one batch may hold its slot for longer than others should wait."""
        return self._cost.slow(self._settings.batch_compute_target_seconds)

    @property
    def idle(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting and not self._in_flight

    @property
    def wait_seconds(self) -> float:
        """How long a row that comes now would wait for a slot."""
        return self._wait.seconds(self.waiting_rows - self._overtaken_rows)

    async def predict(
        self,
        rows: list[Row],
        deadline_seconds: float,
        trace: "RequestTrace | None" = None,
        awaited: "Callable[[asyncio.Future[Answer]], None] | None" = None,
    ) -> Answer:
        """Have rows predicted. `awaited` is given what the caller waits for: if that fails, rows that wait don't leave.

        Raises:
            QueueFull: if too many rows wait.
            Overloaded: if there is no time for these, at once or when their turn comes too late.
            BrokerUnavailable: if Redis does not take them.
            NoWorker, DeadlineExceeded: at the deadline, without a live worker and with one.
        """
        if self._everywhere.rows + len(rows) > self._everywhere.limit:
            raise QueueFull("too many rows wait for a worker", max(1.0, self.wait_seconds))
        self.admit(len(rows), deadline_seconds)
        now = self._clock.now()
        loop = asyncio.get_running_loop()
        call = Waiting(rows, now, now + deadline_seconds, loop.create_future(), trace)
        if awaited is not None:
            awaited(call.answer)
        if trace is not None:
            trace.accepted(Lane.INTERACTIVE, now)
        expiry = loop.call_later(deadline_seconds, self._expire, call)
        self._waiting[call] = None
        self._count_waiting(len(rows))
        if len(rows) > 1:
            self._overtake(call, max(0, len(rows) - self._batch_rows()))
        self._worker_groups.serving(self.model).ask(self)
        try:
            answer = await call.answer
            if trace is not None:
                trace.started(answer.started_at)
            return answer
        finally:
            expiry.cancel()
            self._forget(call)

    def admit(self, n_rows: int, deadline_seconds: float) -> None:
        """Refuse rows that could not be answered in time; also to be asked before they are even parsed.

        Raises:
            Overloaded: if so.
        """
        if not self._wait.blocked:
            return
        if not self._worker_groups.serving(self.model).total:
            # One may come back any moment, and who waits for it keeps nobody waiting. How long says nothing of rows.
            self._wait.left(0, blocked=False)
            return
        # A large call gives way to others before each of its chunks; the rest of others' keeps no small one waiting.
        before = self.waiting_rows if n_rows > self._batch_rows() else self.waiting_rows - self._overtaken_rows
        seconds = self._wait.seconds(before + n_rows) + self._wait.answer_seconds
        if seconds > ADMITTED_SHARE * deadline_seconds:
            detail = f"the answer would take about {seconds:.1f} s, too long for a deadline of {deadline_seconds:g} s"
            raise Overloaded(detail, self._wait.seconds(before))

    def _forget(self, call: Waiting) -> None:
        """Nothing more of a call is to be sent."""
        if call.left:
            self._count_waiting(-call.left)
            self._overtake(call, 0)
            call.taken = len(call.rows)
            self._waiting.pop(call, None)

    def _overtake(self, call: Waiting, rows: int) -> None:
        """Those who come now go before so many rows of a call."""
        self._overtaken_rows += rows - call.overtaken
        call.overtaken = rows

    def _count_waiting(self, rows: int) -> None:
        self.waiting_rows += rows
        self._everywhere.rows += rows

    def send_next(self, slots: Slots) -> bool:
        """Send one batch; whether there is more."""
        chunks = self._take(slots.free_for(self))
        if chunks:
            self._send(chunks, slots)
        else:
            self._wait.left(0, blocked=False)
        return bool(self._waiting)

    def _take(self, free_slots: int) -> list[Chunk]:
        """What the next batch holds; those that gave up waiting, or have waited for too long, are left out."""
        limit = self._rows_limit(free_slots)
        hopeless_until = self._clock.now() + self._wait.answer_seconds if self._wait.blocked else 0.0
        chunks: list[Chunk] = []
        while self._waiting and limit > 0:
            call, _ = self._waiting.popitem(last=False)
            if call.answer.done():
                continue
            if call.deadline < hopeless_until:
                # Others still can be answered in time; were the oldest first in any case, all would come too late.
                call.answer.set_exception(Overloaded("its turn came too late", self._wait.answer_seconds))
                continue
            if call.taken and self._waiting and not call.gave_way:
                # The rest of a large call: those who came meanwhile go first, once, so that neither starves.
                call.gave_way = True
                self._waiting[call] = None
                continue
            if chunks and limit < call.left <= self._settings.batch_rows_max:
                # It fits into a batch, if not into this one: better in one piece.
                self._waiting[call] = None
                self._waiting.move_to_end(call, last=False)
                break
            chunk = call.take(limit)
            self._count_waiting(-chunk.n_rows)
            limit -= chunk.n_rows
            chunks.append(chunk)
            if call.left or call.overtaken:
                self._overtake(call, call.left)
            if call.left:
                self._waiting[call] = None
        return chunks

    def _batch_rows(self) -> int:
        """How many rows a batch may hold."""
        limit = self._settings.batch_rows_max
        if self._cost.known:
            limit = min(limit, self._cost.rows_within(self._settings.batch_compute_target_seconds))
        return limit

    def _rows_limit(self, free_slots: int) -> int:
        """How many rows the next batch should hold."""
        limit = self._batch_rows()
        if self.waiting_rows * self._cost.row_seconds > SPREAD_SECONDS:
            limit = min(limit, math.ceil(self.waiting_rows / free_slots))
        return limit

    def _send(self, chunks: list[Chunk], slots: Slots) -> None:
        batch = self._batch_client.open(self._on_reply)
        slot = slots.take(self)
        blocked = bool(self._waiting) and slots.free_for(self) < 1
        left_at = self._wait.left(sum(chunk.n_rows for chunk in chunks), blocked)
        self._in_flight[batch] = _Batch(slot, chunks, left_at)
        message = PredictMessage(
            batch=batch,
            reply_to=self._batch_client.reply_to,
            model=self.model,
            version=self._manifest.version,
            calls=[
                Call(chunk.n_rows, chunk.call.accepted_at, chunk.call.deadline, chunk.start == 0) for chunk in chunks
            ],
            rows=self._on_the_wire([row for chunk in chunks for row in chunk.rows]),
        )
        traces = {}
        if self._settings.tracing:
            traces = {str(at): chunk.call.trace.carrier for at, chunk in enumerate(chunks) if chunk.call.trace}
        task = asyncio.create_task(self._publish(message, slots.pool, traces))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    def _on_the_wire(self, rows: list[Row]) -> list[Row] | str:
        if self._only_numbers and len(rows) > PACKED_ROWS_MIN:
            with suppress(TypeError):
                # A null is no number: such rows travel as they are.
                return packed(rows)
        return rows

    async def _publish(self, message: PredictMessage, pool: str, traces: Traces) -> None:
        try:
            await self._batch_client.publish(message, pool, traces)
        except (RedisError, OSError, asyncio.TimeoutError):
            self._release(message.batch, BrokerUnavailable)
        except Exception as error:
            # Not foreseen, but it must not cost a slot for ever.
            failure = error
            self._release(message.batch, lambda: failure)
        else:
            lost_in = max(call.deadline for call in message.calls) - self._clock.now() + REPLY_GRACE_SECONDS
            asyncio.get_running_loop().call_later(lost_in, self._release, message.batch, NoWorker)

    def _release(self, batch: int, failure: Callable[[], Exception]) -> None:
        """Give up a batch; its callers, if any still wait, get the failure."""
        if batch not in self._in_flight:
            return
        gone = self._in_flight.pop(batch)
        gone.slot.give_back()
        self._batch_client.close(batch)
        for chunk in gone.chunks:
            if not chunk.call.answer.done():
                chunk.call.answer.set_exception(failure())
        gone.slot.slots.wake()

    def _on_reply(self, reply: BatchReply) -> None:
        batch = self._in_flight.pop(reply.batch)
        batch.slot.give_back()
        self._wait.answered(batch.left_at)
        for chunk, result in zip(batch.chunks, reply.results, strict=False):
            chunk.settle(result, reply)
        if reply.compute_seconds:
            self._cost.observe(sum(chunk.n_rows for chunk in batch.chunks), reply.compute_seconds)
        batch.slot.slots.pump()

    def _expire(self, call: Waiting) -> None:
        if not call.answer.done():
            served = self._worker_groups.serving(self.model).total
            call.answer.set_exception(DeadlineExceeded(call.deadline - call.accepted_at) if served else NoWorker())
