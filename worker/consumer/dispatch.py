"""A step of Celery's consumer: the way from the queue to the pool child is short, and events wait until after it."""

import inspect
from contextlib import suppress
from typing import Any

import redis
from celery import bootsteps

EVENTS_SECONDS = 0.1
"""How long task events are collected before they are published together."""

EVENTS_KEPT = 5000
"""Task events after which they are published before the time is over."""


class DispatchStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Writes a task into the pipe of an idle child at once, and publishes task events now and then.

    Celery does it the other way round: it publishes the event that a task was received, waits for the broker's answer,
    sends its next BRPOP and waits until the pipe can be written; only then the child gets the task.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._publishing: Any = None
        reserve = consumer.on_task_request

        def hand_over(request: Any) -> None:
            reserve(request)
            write_to_idle_children(consumer.hub, consumer.pool._pool)

        consumer.on_task_request = hand_over
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Finish what was begun before anything is dropped. Collect events; a new connection has a new dispatcher."""
        pool = consumer.pool._pool

        def flush() -> None:
            finish_writes(pool)
            pool.flush()

        consumer.pool.flush = flush
        dispatcher = consumer.event_dispatcher
        dispatcher.buffer_limit = EVENTS_KEPT

        def publish() -> None:
            self._publishing = None
            dispatcher.flush()

        def collect() -> None:
            if self._publishing is None:
                self._publishing = consumer.timer.call_after(EVENTS_SECONDS, publish)

        dispatcher.on_send_buffered = collect

    def stop(self, consumer: Any) -> None:
        """Publish what was collected."""
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
            with suppress(redis.RedisError, OSError):
                consumer.event_dispatcher.flush()


def write_to_idle_children(hub: Any, pool: Any) -> None:
    """What the event loop does when the pipes of these children can be written; a full one is left to it."""
    idle = pool._all_inqueues - pool._active_writes - pool._busy_workers
    if idle:
        hub.consolidate_callback(list(idle))


def finish_writes(pool: Any) -> None:
    """Write to its end what is in a pipe in part, for a task that is larger than what a pipe holds.

    When the consumer stops, or loses the broker, Celery drops tasks that no child has accepted, those too of which a
    child has read the first half. It would take what comes next for the other half: its next task, or the word to end.
    """
    for job in list(pool._cache.values()):
        reference = getattr(job, "_writer", None)
        writer: Any = reference() if reference else None
        if writer in pool._active_writers and inspect.getgeneratorstate(writer) != inspect.GEN_CREATED:
            pool._flush_writer(job._write_to, writer)
