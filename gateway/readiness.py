"""The readiness probe: a row goes through the real queue, and the prediction of a sample must be the expected one."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from gateway.broker.batch_client import BatchClient
from gateway.broker.redis_client import bounded
from gateway.broker.stats import QueueMonitor
from gateway.broker.workers import Workers
from headrace.models.made_up import example_row
from headrace.models.manifest import Manifest
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, Call, ErrorCode, Lane, PredictMessage, queue_name

ANSWER_SECONDS = 2.0
"""Time within which the probe's row must be answered, unless the workers are seen to work."""

CHECK_SECONDS = 0.5
"""Time between two looks at the workers while a row is not answered."""

FRESH_SECONDS = 2.0
"""Time for which a good answer is reused, so that probes do not become load."""

FRESH_TIMES_COMPUTE = 10.0
"""Least such time in compute times of the row: of a slow model, probes take a tenth of a slot at most."""

PUBLISHED_SECONDS = 0.1
"""Longest time between the reading of the clock for a row and for its queue entry."""

TOLERANCE = 1e-6
"""Largest difference of a predicted number from the manifest's; a worker that loads a model uses the same."""

NO_ANSWER = frozenset(
    [ErrorCode.MODEL_UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.TIME_LIMIT, ErrorCode.WORKER_LOST]
)
"""Errors that say that the estimator was not asked, or did not answer; others are about the row."""


class ReadinessProbe:
    """A probe of the queue with one row in flight at most; callers that ask meanwhile share its answer.

    Busy is not dead. A row that a busy worker has taken, or that waits while all slots are busy, may take as long as
    their batches may; meanwhile the queue serves. Trouble is a row that is not answered although a slot is idle, or
    although no batch is within its time limit.
    """

    def __init__(
        self,
        manifest: Callable[[], Manifest],
        batch_client: BatchClient,
        workers: Workers,
        monitor: QueueMonitor,
        clock: BrokerClock,
        limit_seconds: float,
    ) -> None:
        """`limit_seconds` is the time that a batch takes at most."""
        self._manifest = manifest
        self._workers = workers
        self._monitor = monitor
        self._batch_client = batch_client
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._asking: asyncio.Task[str | None] | None = None
        self._at_work = False
        """True if the row in flight is not answered because the workers work."""
        self._good_until = -math.inf

    async def trouble(self) -> str | None:
        """Return why the queue does not serve, or None if it does."""
        if time.monotonic() < self._good_until:
            return None
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._answered)
        asking = self._asking
        while not asking.done():
            if self._at_work:
                return None
            await asyncio.wait({asking}, timeout=CHECK_SECONDS)
        return asking.result()

    def _answered(self, task: "asyncio.Task[str | None]") -> None:
        self._asking = None
        self._at_work = False
        if not task.cancelled():
            # The callers may have gone.
            task.exception()

    async def _ask(self) -> str | None:
        while True:
            manifest = self._manifest()
            try:
                reply = await self._predicted(manifest)
            except (RedisError, OSError, asyncio.TimeoutError):
                return "the queue can't be reached"
            if reply is None:
                return f"no answer through the queue within {ANSWER_SECONDS:g} s"
            result = reply.results[0]
            late = "error" in result and result["error"]["code"] == ErrorCode.DEADLINE_EXCEEDED.value
            if not late or not self._at_work:
                return self._objection(manifest, result, reply.compute_seconds)
            # While the workers worked, the row's deadline passed: it was not computed, and the next one is sent.
            self._at_work = False

    def _objection(self, manifest: Manifest, result: dict[str, Any], compute_seconds: float) -> str | None:
        if trouble := _trouble_of(result, manifest):
            return trouble
        fresh_seconds = min(FRESH_TIMES_COMPUTE * compute_seconds, self._limit_seconds)
        self._good_until = time.monotonic() + max(FRESH_SECONDS, fresh_seconds)
        return None

    async def _predicted(self, manifest: Manifest) -> BatchReply | None:
        """Send a row and return its reply; None if there is none although the workers could give it.

        Raises:
            RedisError, OSError, TimeoutError: if Redis does not take the row.
        """
        answer: asyncio.Future[BatchReply] = asyncio.get_running_loop().create_future()
        batch = self._batch_client.expect_reply(lambda reply: None if answer.done() else answer.set_result(reply))
        group = self._workers.group_for(manifest.name)
        now = self._clock.now()
        message = PredictMessage(
            batch=batch,
            reply_to=self._batch_client.reply_to,
            model=manifest.name,
            version=manifest.version,
            calls=[Call(1, now, now + ANSWER_SECONDS)],
            rows=[example_row(manifest)],
            probe=True,
        )
        try:
            await bounded(self._batch_client.publish(message, group))
            await self._wait(answer, group, now)
        finally:
            self._batch_client.ignore_reply(batch)
        return answer.result() if answer.done() else None

    async def _wait(self, answer: "asyncio.Future[BatchReply]", group: str, sent_at: float) -> None:
        """Wait for the answer to a row until ANSWER_SECONDS have passed in which no worker was at work."""
        patience_until = time.monotonic() + ANSWER_SECONDS
        taken_at = math.inf
        while True:
            await asyncio.wait({answer}, timeout=min(CHECK_SECONDS, ANSWER_SECONDS))
            if answer.done():
                return
            taken = await self._taken(group, sent_at)
            now = time.monotonic()
            taken_at = min(taken_at, now) if taken else math.inf
            work = self._workers.work_of(group)
            in_time = now - taken_at < self._limit_seconds
            self._at_work = work.busy > 0 and in_time and (taken or not work.idle)
            if self._at_work:
                patience_until = now + ANSWER_SECONDS
            elif now > patience_until:
                return

    async def _taken(self, group: str, sent_at: float) -> bool:
        """Return True if the row sent at this time is in no queue any more: the oldest entry is younger."""
        stats = await self._monitor.refresh()
        oldest_seconds = stats.oldest_seconds_of.get(queue_name(Lane.INTERACTIVE, group), 0.0)
        return stats.broker_up and oldest_seconds < self._clock.now() - sent_at - PUBLISHED_SECONDS


def _trouble_of(result: dict[str, Any], manifest: Manifest) -> str | None:
    """Return what is wrong with the worker's answer to the example row, or None."""
    sample = manifest.samples[0] if manifest.samples else None
    if "error" in result:
        code = result["error"]["code"]
        # A version without samples was never asked for its example row, and may refuse it: then the queue works too.
        return f"the worker answered {code}" if sample or code in NO_ANSWER else None
    if sample is None:
        return None
    same = len(result["predictions"]) == 1 and _same(result["predictions"][0], sample.prediction)
    return None if same else "the worker answered another prediction"


def _same(answer: Any, expected: Any) -> bool:
    """Return True if the answer is the manifest's prediction; a list holds one value per output.

    Numbers need not agree to the last bit, because other machines, and batches of other sizes, round differently.
    """
    if isinstance(answer, list) and isinstance(expected, list):
        return len(answer) == len(expected) and all(map(_same, answer, expected))
    if isinstance(answer, float) and isinstance(expected, float | int):
        return math.isclose(answer, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(answer == expected)
