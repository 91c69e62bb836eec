"""A step of Celery's consumer that shortens the way from the queue to the pool child, and lets task events wait."""

import inspect
from contextlib import suppress
from typing import Any

import redis
from celery import bootsteps

EVENTS_SECONDS = 0.1
"""Time in which task events are collected to be published together."""

EVENTS_KEPT = 5000
"""Number of task events after which they are published before that time is over."""


class DispatchStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Step that writes a task into the pipe of an idle child at once, and publishes task events now and then.

    Celery does it the other way round: it publishes the event that a task was received, waits for the broker's answer,
    sends its next BRPOP and waits until the pipe can be written; only then the child gets the task.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._publishing: Any = None
        reserve = consumer.on_task_request

        def dispatch(request: Any) -> None:
            reserve(request)
            write_to_idle_children(consumer.hub, consumer.pool._pool)

        consumer.on_task_request = dispatch
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Make the pool finish partial writes before it drops tasks, and the dispatcher of this connection collect."""
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
        """Publish the events that were collected."""
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
            with suppress(redis.RedisError, OSError):
                consumer.event_dispatcher.flush()


def write_to_idle_children(hub: Any, pool: Any) -> None:
    """Write waiting tasks to idle children now, as the event loop does once a pipe is writable.

    If a pipe is full, the rest of the task is left to the event loop.
    """
    idle = pool._all_inqueues - pool._active_writes - pool._busy_workers
    if idle:
        hub.consolidate_callback(list(idle))


def finish_writes(pool: Any) -> None:
    """Finish the tasks that are in a pipe in part, because they are larger than what the pipe holds.

    When the consumer stops or loses the broker, Celery (`AsynPool.flush` in `celery.concurrency.asynpool`) discards
    every task that no child has accepted, also a task of which a child has read the first half. That child would take
    the next thing in its pipe for the second half: another task, or the request to end.

    A task's write is a generator, `_write_job` in `AsynPool._create_write_handlers` of the same module:

        GEN_CREATED ---first next()---> GEN_SUSPENDED ---last next()---> GEN_CLOSED
        (no byte written)               (pipe full: written in part)     (written)
            |                                |
            | flush: discarded, harmless     | flush: discarded, breaks the child's pipe
            v                                v
         the broker delivers it again     so this function runs it to GEN_CLOSED before the flush, with the pool's
                                          own `_flush_writer`, which waits for the child to read
    """
    for job in list(pool._cache.values()):
        # A weak reference, as the write begins; jobs that wait for a child have none.
        reference = getattr(job, "_writer", None)
        writer: Any = reference() if reference else None
        if writer in pool._active_writers and inspect.getgeneratorstate(writer) != inspect.GEN_CREATED:
            pool._flush_writer(job._write_to, writer)
