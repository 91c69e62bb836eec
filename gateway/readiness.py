"""The readiness probe: a sample row goes through the real queue, and its prediction must be the expected one."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from gateway.broker.batch_client import BatchClient
from gateway.broker.redis_client import bounded
from gateway.broker.workers import Workers
from headrace.models.manifest import Manifest
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, Call, PredictMessage

ANSWER_SECONDS = 2.0
"""Time within which the probe's row must be answered."""

FRESH_SECONDS = 2.0
"""Time for which a good answer is reused, so that probes do not become load."""

TOLERANCE = 1e-6
"""Largest difference of a predicted number from the manifest's; a worker that loads a model uses the same."""


class ReadinessProbe:
    """A probe of the queue with one row in flight at most; callers that ask meanwhile share its answer."""

    def __init__(
        self,
        manifest: Callable[[], Manifest],
        batch_client: BatchClient,
        workers: Workers,
        clock: BrokerClock,
    ) -> None:
        self._manifest = manifest
        self._workers = workers
        self._batch_client = batch_client
        self._clock = clock
        self._asking: asyncio.Task[str | None] | None = None
        # The time of the last answer, and what was wrong.
        self._last: tuple[float, str | None] = (float("-inf"), None)

    async def trouble(self) -> str | None:
        """Return why the queue does not serve, or None if it does."""
        answered_at, last = self._last
        if time.monotonic() - answered_at < FRESH_SECONDS and last is None:
            return None
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._answered)
        return await asyncio.shield(self._asking)

    def _answered(self, task: "asyncio.Task[str | None]") -> None:
        self._asking = None
        if not task.cancelled() and task.exception() is None:
            self._last = (time.monotonic(), task.result())

    async def _ask(self) -> str | None:
        manifest = self._manifest()
        sample = manifest.samples[0]
        answer: asyncio.Future[BatchReply] = asyncio.get_running_loop().create_future()
        batch = self._batch_client.expect_reply(lambda reply: None if answer.done() else answer.set_result(reply))
        now = self._clock.now()
        message = PredictMessage(
            batch=batch,
            reply_to=self._batch_client.reply_to,
            model=manifest.name,
            version=manifest.version,
            calls=[Call(1, now, now + ANSWER_SECONDS)],
            rows=[sample.row],
            probe=True,
        )
        try:
            await bounded(self._batch_client.publish(message, self._workers.group_for(manifest.name)))
            reply = await asyncio.wait_for(answer, ANSWER_SECONDS)
        except asyncio.TimeoutError:
            return f"no answer through the queue within {ANSWER_SECONDS:g} s"
        except (RedisError, OSError):
            return "the queue can't be reached"
        finally:
            self._batch_client.ignore_reply(batch)
        result = reply.results[0]
        if "error" in result:
            return f"the worker answered {result['error']['code']}"
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
