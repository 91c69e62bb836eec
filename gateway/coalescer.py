"""Natural batching: rows that arrive while earlier batches are in flight leave together as one task.

No timer: a lone request goes at once. Celery costs about 2 ms per task, whatever it holds, so it is paid per batch.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from gateway.errors import broker_unavailable, deadline_exceeded, no_worker, overloaded
from gateway.exchange import Exchange
from gateway.settings import GatewaySettings
from gateway.slots import Pools, Slots
from shared.clock import BrokerClock
from shared.contract import BatchReply, Call, PredictMessage, Row
from shared.manifest import Manifest

SPREAD_SECONDS = 0.002
"""Compute time below which rows are not divided over free slots: a task of its own would cost more."""

LEARNING_RATE = 0.2
"""Weight of the newest batch in the learned compute time per row."""

REPLY_GRACE_SECONDS = 0.5
"""How long after the last deadline of a batch its slot is given up for lost."""


@dataclass(eq=False, slots=True)
class _Waiting:
    rows: list[Row]
    accepted_at: float
    deadline: float
    answer: "asyncio.Future[Answer]"


@dataclass(frozen=True, slots=True)
class Answer:
    """A call's result, when its batch was started (broker's clock), and the batch's compute time in seconds."""

    result: dict[str, object]
    accepted_at: float
    started_at: float
    compute_seconds: float


@dataclass
class WaitingRows:
    """The interactive rows that wait in this process, over all models."""

    limit: int
    rows: int = 0


class Coalescer:
    """The interactive lane of one model version in this process."""

    def __init__(
        self,
        manifest: Manifest,
        exchange: Exchange,
        pools: Pools,
        clock: BrokerClock,
        everywhere: WaitingRows,
        settings: GatewaySettings,
    ) -> None:
        self._manifest = manifest
        self._exchange = exchange
        self._pools = pools
        self._clock = clock
        self._everywhere = everywhere
        self._settings = settings
        self._waiting: deque[_Waiting] = deque()
        self.waiting_rows = 0
        self._in_flight: dict[int, tuple[Slots, list[_Waiting]]] = {}
        self._row_seconds = 0.0
        self._publishing: set[asyncio.Task[None]] = set()

    @property
    def model(self) -> str:
        """The model's name."""
        return self._manifest.name

    @property
    def idle(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting and not self._in_flight

    async def predict(self, rows: list[Row], deadline_seconds: float) -> Answer:
        """Have rows predicted.

        Raises:
            Problem: 503 if too many rows wait, the broker is down or nobody works; 504 past the deadline.
        """
        if self._everywhere.rows + len(rows) > self._everywhere.limit:
            raise overloaded("queue_full", "too many rows wait for a worker", 1)
        loop = asyncio.get_running_loop()
        now = self._clock.now()
        call = _Waiting(rows, now, now + deadline_seconds, loop.create_future())
        timer = loop.call_later(deadline_seconds, self._expire, call, deadline_seconds)
        self._waiting.append(call)
        self._count_waiting(len(rows))
        self._pools.of(self.model).ask(self)
        try:
            return await call.answer
        finally:
            timer.cancel()

    def _count_waiting(self, rows: int) -> None:
        self.waiting_rows += rows
        self._everywhere.rows += rows

    def send_next(self, slots: Slots) -> bool:
        """Send one batch; whether there is more."""
        calls = self._take(slots.free)
        if calls:
            self._send(calls, slots)
        return bool(self._waiting)

    def _take(self, free_slots: int) -> list[_Waiting]:
        """The calls of the next batch; those that gave up waiting are left out."""
        limit = self._settings.batch_rows_max
        if self._row_seconds:
            limit = min(limit, max(1, int(self._settings.batch_compute_target_seconds / self._row_seconds)))
        if self.waiting_rows * self._row_seconds > SPREAD_SECONDS:
            limit = min(limit, math.ceil(self.waiting_rows / free_slots))
        calls: list[_Waiting] = []
        rows = 0
        while self._waiting and (not calls or rows + len(self._waiting[0].rows) <= limit):
            call = self._waiting.popleft()
            self._count_waiting(-len(call.rows))
            if not call.answer.done():
                calls.append(call)
                rows += len(call.rows)
        return calls

    def _send(self, calls: list[_Waiting], slots: Slots) -> None:
        batch = self._exchange.open(self._on_reply)
        self._in_flight[batch] = (slots, calls)
        slots.take()
        message = PredictMessage(
            batch=batch,
            reply_to=self._exchange.reply_to,
            model=self.model,
            version=self._manifest.version,
            calls=[Call(len(call.rows), call.accepted_at, call.deadline) for call in calls],
            rows=[row for call in calls for row in call.rows],
        )
        task = asyncio.create_task(self._publish(message, slots.pool))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(self, message: PredictMessage, pool: str) -> None:
        try:
            await self._exchange.publish(message, pool)
        except (RedisError, OSError, asyncio.TimeoutError):
            self._release(message.batch, broker_unavailable)
        except Exception as error:
            # Not foreseen, but it must not cost a slot for ever.
            failure = error
            self._release(message.batch, lambda: failure)
        else:
            lost_in = max(call.deadline for call in message.calls) - self._clock.now() + REPLY_GRACE_SECONDS
            asyncio.get_running_loop().call_later(lost_in, self._release, message.batch, no_worker)

    def _release(self, batch: int, problem: Callable[[], Exception]) -> None:
        """Give up a batch; its callers, if any still wait, get the problem."""
        if batch not in self._in_flight:
            return
        slots, calls = self._in_flight.pop(batch)
        slots.give_back()
        self._exchange.close(batch)
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(problem())
        slots.wake()

    def _on_reply(self, reply: BatchReply) -> None:
        slots, calls = self._in_flight.pop(reply.batch)
        slots.give_back()
        for call, result in zip(calls, reply.results, strict=False):
            if not call.answer.done():
                call.answer.set_result(Answer(result, call.accepted_at, reply.started_at, reply.compute_seconds))
        if reply.compute_seconds:
            row_seconds = reply.compute_seconds / sum(len(call.rows) for call in calls)
            known = self._row_seconds or row_seconds
            self._row_seconds = known + LEARNING_RATE * (row_seconds - known)
        slots.pump()

    def _expire(self, call: _Waiting, deadline_seconds: float) -> None:
        if not call.answer.done():
            served = self._pools.of(self.model).total
            call.answer.set_exception(deadline_exceeded(deadline_seconds) if served else no_worker())
        # While there are no slots nobody else takes them out, and they would count against `waiting_rows_max`.
        while self._waiting and self._waiting[0].answer.done():
            self._count_waiting(-len(self._waiting.popleft().rows))
