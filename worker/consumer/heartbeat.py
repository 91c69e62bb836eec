"""The worker's heartbeat: tells the gateways, once a second, that it consumes, with how many slots, for which models.

It also tells how many of the slots have work, and of which lane.
It is sent on the timer of the consumer's own event loop, so it ends when the worker no longer consumes.
"""

import logging
import time
from typing import Any

import redis
from celery import bootsteps
from celery.worker import state

from shared.queue import keys
from shared.queue.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from worker.consumer.lanes import is_bulk
from worker.redis_client import connect

logger = logging.getLogger(__name__)


class HeartbeatStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Step of Celery's consumer; started after the queues are consumed, stopped when the worker stops."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        settings = consumer.app.headrace_settings
        self._name = consumer.hostname
        self._slots = settings.worker_concurrency
        self._pinned = settings.pinned_models
        self._limit_seconds = settings.lease_seconds
        self._held_since: dict[str, float] = {}
        """When each task that the worker holds was seen first, in seconds of a clock that never goes back."""
        self._redis = connect(settings.redis_url, retries=0)
        self._timer: Any = None
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Send a heartbeat now and every second."""
        self._send()
        self._timer = consumer.timer.call_repeatedly(HEARTBEAT_SECONDS, self._send)

    def stop(self, consumer: Any) -> None:
        """Remove the heartbeat, so that the gateways send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._redis.hdel(keys.WORKERS, self._name)
        except redis.RedisError as error:
            logger.warning("heartbeat not removed: %s", type(error).__name__)

    def _send(self) -> None:
        try:
            asked = time.monotonic()
            overdue = self._overdue(asked)
            seconds, microseconds = self._redis.time()
            heartbeat = Heartbeat(
                at=seconds + microseconds / 1e6 + (time.monotonic() - asked) / 2,
                slots=self._slots,
                pinned=self._pinned,
                busy=len(self._held_since) - overdue,
                overdue=overdue,
                bulk=sum(is_bulk(request.delivery_info["routing_key"]) for request in state.reserved_requests),
            )
            self._redis.hset(keys.WORKERS, self._name, heartbeat.model_dump_json())
        except redis.RedisError as error:
            logger.warning("heartbeat not sent: %s", type(error).__name__)

    def _overdue(self, now: float) -> int:
        """Look at the tasks that the worker holds, and return how many it has held for longer than any may run."""
        held = [request.id for request in state.reserved_requests]
        self._held_since = {task: self._held_since.get(task, now) for task in held}
        return sum(now - since > self._limit_seconds for since in self._held_since.values())
