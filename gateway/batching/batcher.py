"""Dynamic batching without a timer: rows that arrive while earlier batches are in flight leave together.

A lone request leaves at once. A Celery task costs about 2 ms, however many rows it holds, so that is paid per batch.
A request of more rows than a batch may hold leaves in chunks; between two of them all others have a turn.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway.admission.jobs import ADMITTED_SHARE
from gateway.admission.wait_estimates import RowWaitEstimate
from gateway.batching.calls import Batch, Chunk, OnEnd, WaitingCall
from gateway.batching.cost_model import BatchCost
from gateway.batching.row_weights import RowWeights
from gateway.batching.slots import Slots, WorkerGroups
from gateway.batching.wait_queue import WaitQueue
from gateway.broker.batch_client import BatchClient
from gateway.broker.celery_message import Traces
from gateway.errors import BrokerUnavailable, DeadlineExceeded, Overloaded, QueueFull
from gateway.fairness.budget import Budget
from gateway.settings import GatewaySettings
from headrace.models.manifest import Manifest
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, Call, Lane, PredictMessage, Row
from shared.queue.packed_rows import PACKED_ROWS_MIN, packed

if TYPE_CHECKING:
    from gateway.tracing import RequestTrace

SPREAD_SECONDS = 0.002
"""Compute time of the waiting rows below which they are not divided over free slots: one more task would cost more."""

REPLY_GRACE_SECONDS = 0.5
"""Time after the last deadline of a batch at which it is late, and its rows are forgotten."""


class Batcher:
    """The interactive lane of one model version in this process."""

    def __init__(
        self,
        manifest: Manifest,
        batch_client: BatchClient,
        worker_groups: WorkerGroups,
        clock: BrokerClock,
        all_models: Budget,
        settings: GatewaySettings,
    ) -> None:
        """`all_models` counts the waiting rows of all batchers of the process."""
        self._manifest = manifest
        self._only_numbers = all(feature.type == "number" for feature in manifest.features)
        self._batch_client = batch_client
        self._worker_groups = worker_groups
        self._clock = clock
        self._all_models = all_models
        self._settings = settings
        self._weights = RowWeights(manifest.features)
        self._queue = WaitQueue(settings.batch_rows_max)
        self._in_flight: dict[int, Batch] = {}
        self._cost = BatchCost()
        self._wait = RowWaitEstimate()
        self._publishing: set[asyncio.Task[None]] = set()
        self._stepped_seconds = clock.stepped_seconds

    @property
    def model(self) -> str:
        """The model's name."""
        return self._manifest.name

    @property
    def slow(self) -> bool:
        """True if the next batch may hold its slot for longer than other models should wait."""
        next_weight = 1 if self._only_numbers else self._queue.next_weight
        return self._cost.is_slow(self._settings.batch_compute_target_seconds, next_weight)

    @property
    def idle(self) -> bool:
        """True if no row waits and no batch is in flight."""
        return not self._queue and not self._in_flight

    @property
    def waiting_rows(self) -> int:
        """Number of rows that wait for a batch."""
        return self._queue.rows

    @property
    def wait_seconds(self) -> float:
        """Estimated time for which a row that comes now would wait for a slot, of the owner who waits longest."""
        return self._wait.seconds(self._queue.most_ahead)

    def enqueue(
        self,
        rows: Sequence[Row],
        deadline_seconds: float,
        on_end: OnEnd,
        trace: "RequestTrace | None" = None,
        owner: str = "",
        takes_bytes: bool = False,
    ) -> WaitingCall:
        """Have rows predicted.

        Args:
            rows: The rows of one request.
            deadline_seconds: Time from now after which no answer is needed.
            on_end: Called once with the answer, or with one of these errors: Overloaded, if the turn of the rows comes
                too late; BrokerUnavailable, if Redis does not take them, or at the deadline if it does not answer;
                NoWorker, at the deadline if no live worker serves the model, or after it if the batch is lost;
                DeadlineExceeded, at the deadline if a live worker serves the model.
            trace: The request's spans, if it is traced.
            owner: Owner of the API key, of whose rows only half as many may wait as of all; empty without keys.
            takes_bytes: True if probabilities of many rows may be packed, and may not be a text.

        Returns:
            The call. Once it is dropped (`drop`), `on_end` is not called any more.

        Raises:
            QueueFull: if too many rows wait.
            Overloaded: if there is no time for these.
        """
        budget, n_rows = self._all_models, len(rows)
        share = budget.share_of(owner)
        if budget.counted + n_rows >= budget.half and (n_rows > budget.limit or not share.has_room(n_rows)):
            raise QueueFull("too many rows wait for a worker", max(1.0, self.wait_seconds))
        weights = self._weights.sums(rows)
        self.admit(weights[-1] if weights else n_rows, deadline_seconds, owner)
        self._follow_clock()
        now = self._clock.now()
        call = WaitingCall(
            rows, now, now + deadline_seconds, on_end, share, self._queue.remove, trace, takes_bytes, weights
        )
        if trace is not None:
            trace.begin_queue(Lane.INTERACTIVE, now)
        # A wheel of ticks, which would set no timer per call, does not pay: measured with 60,000 deadlines set and
        # cancelled in uvloop, either costs 0.83 us per deadline while 200 are in flight, and 0.9 us while 3,000 are.
        call.expiry = asyncio.get_running_loop().call_later(deadline_seconds, self._expire, call)
        self._queue.add(call, self._batch_weight() if n_rows > 1 else 1)
        self._worker_groups.serving(self.model).request_turn(self)
        return call

    @staticmethod
    def drop(call: WaitingCall) -> None:
        """End a call that nobody waits for any more: rows that still wait are never sent."""
        call.end(None)

    def admit(self, weight: int, deadline_seconds: float, owner: str = "") -> None:
        """Refuse rows that could not be answered in time; may be called before they are even parsed.

        Args:
            weight: weight of the rows, at least their number.
            deadline_seconds: as in `enqueue`.
            owner: as in `enqueue`.

        Raises:
            Overloaded: if so.
        """
        if not self._wait.blocked:
            return
        if not self._worker_groups.serving(self.model).total:
            # A worker may come back any moment, and a row that waits for it delays no other. How long the rows have
            # waited says nothing about how fast they are served.
            self._wait.became_idle()
            return
        share = self._all_models.share_of(owner)
        ahead = self._queue.weight_ahead(share, weight, is_large=weight > self._batch_weight())
        seconds = self._wait.seconds(ahead + weight) + self._wait.answer_seconds
        if seconds > ADMITTED_SHARE * deadline_seconds:
            detail = f"the answer would take about {seconds:.1f} s, too long for a deadline of {deadline_seconds:g} s"
            raise Overloaded(detail, self._wait.seconds(ahead))

    def send_next(self, slots: Slots) -> bool:
        """Send one batch, if rows wait; return True if more rows wait."""
        self._follow_clock()
        is_slow = self.slow
        limit = self._weight_limit(slots.free_for(self))
        answer_seconds = self._wait.answer_seconds
        earliest_deadline = self._clock.now() + answer_seconds if self._wait.blocked else 0.0
        chunks = self._queue.pop_batch(limit, earliest_deadline, answer_seconds)
        if chunks:
            self._send(chunks, slots, is_slow)
        else:
            self._wait.became_idle()
        return bool(self._queue)

    def _follow_clock(self) -> None:
        """Move the times of the waiting calls by as much as the clock has stepped since this was asked last."""
        step_seconds = self._clock.stepped_seconds - self._stepped_seconds
        if step_seconds:
            self._stepped_seconds = self._clock.stepped_seconds
            self._queue.move_times(step_seconds)

    def _batch_weight(self) -> int:
        """Return the weight of the rows that a batch may hold."""
        settings = self._settings
        return min(settings.batch_rows_max, self._cost.rows_within(settings.batch_compute_target_seconds))

    def _weight_limit(self, free_slots: int) -> int:
        """Return the weight that the next batch should have, with this number of slots free for the model."""
        limit = self._batch_weight()
        if self._queue.weight * self._cost.row_seconds > SPREAD_SECONDS:
            limit = min(limit, math.ceil(self._queue.weight / free_slots))
        return limit

    def _send(self, chunks: list[Chunk], slots: Slots, is_slow: bool) -> None:
        batch = self._batch_client.expect_reply(self._on_reply)
        permit = slots.issue_permit(is_slow)
        blocked = bool(self._queue) and slots.free_for(self) < 1
        weight = sum(chunk.weight for chunk in chunks)
        heaviest = 1 if self._only_numbers else max(-(-chunk.weight // chunk.n_rows) for chunk in chunks)
        self._in_flight[batch] = Batch(permit, chunks, weight, heaviest, self._wait.batch_left(weight, blocked))
        message = PredictMessage(
            batch=batch,
            reply_to=self._batch_client.reply_to,
            model=self.model,
            version=self._manifest.version,
            calls=[
                Call(chunk.n_rows, call.accepted_at, call.deadline, chunk.start == 0, call.takes_bytes)
                for chunk in chunks
                for call in [chunk.call]
            ],
            rows=self._encoded(chunks),
        )
        traces = {}
        if self._settings.tracing:
            traces = {str(at): chunk.call.trace.carrier for at, chunk in enumerate(chunks) if chunk.call.trace}
        task = asyncio.create_task(self._publish(message, slots.worker_group, traces))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    def _encoded(self, chunks: list[Chunk]) -> list[Row] | str:
        """Return many rows of numbers packed, and other rows as they are."""
        if self._only_numbers and sum(chunk.n_rows for chunk in chunks) > PACKED_ROWS_MIN:
            with suppress(TypeError):
                # A null is not a number: rows that have one are sent as they are.
                return packed(*(chunk.rows for chunk in chunks))
        return [row for chunk in chunks for row in chunk.rows]

    async def _publish(self, message: PredictMessage, worker_group: str, traces: Traces) -> None:
        try:
            await self._batch_client.publish(message, worker_group, traces)
        except (RedisError, OSError, asyncio.TimeoutError):
            self._give_up(message.batch, BrokerUnavailable)
        except Exception as error:
            # Unforeseen, but it must not cost a slot for ever.
            failure = error
            self._give_up(message.batch, lambda: failure)
        else:
            late_in = max(call.deadline for call in message.calls) - self._clock.now() + REPLY_GRACE_SECONDS
            asyncio.get_running_loop().call_later(late_in, self._be_late, message.batch)

    def _be_late(self, batch: int) -> None:
        """Forget the rows of a batch that was not answered in time; its slot is busy until it is answered or lost."""
        if batch not in self._in_flight:
            return
        late = self._in_flight[batch]
        late.be_late(self._worker_groups.no_slots)
        # A batch is begun before its last deadline or not at all, and no batch outlives this time.
        asyncio.get_running_loop().call_later(
            self._settings.lease_seconds, self._give_up, batch, self._worker_groups.no_slots
        )

    def _give_up(self, batch: int, failure: Callable[[], Exception]) -> None:
        """Give up a batch that is still in flight; callers that wait for it get the failure."""
        if batch not in self._in_flight:
            return
        lost = self._in_flight.pop(batch)
        lost.permit.give_back()
        self._batch_client.ignore_reply(batch)
        lost.fail(failure)
        lost.permit.slots.schedule_sending()

    def _on_reply(self, reply: BatchReply) -> None:
        batch = self._in_flight.pop(reply.batch)
        batch.permit.give_back()
        for chunk, result in zip(batch.chunks, reply.results, strict=False):
            chunk.settle(result, reply)
        limit_seconds = self._settings.task_soft_time_limit_seconds
        if reply.compute_seconds or reply.ran_into_time_limit:
            # None computes for longer, whatever a reply says.
            seconds = min(reply.compute_seconds or limit_seconds, limit_seconds)
            self._cost.observe(batch.weight, seconds, batch.heaviest)
        # The time of a text that is too long for a batch with others says nothing of what other callers can expect.
        if batch.chunks and (self._only_numbers or batch.weight <= self._batch_weight()):
            self._wait.batch_answered(batch.left_at)
        batch.permit.slots.send_batches()

    def _expire(self, call: WaitingCall) -> None:
        """End a call at its deadline."""
        served = self._worker_groups.serving(self.model).total
        late = DeadlineExceeded(call.deadline - call.accepted_at)
        call.end(late if served else self._worker_groups.no_slots())
