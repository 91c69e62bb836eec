"""Two steps of Celery's consumer that look after the pool: dead children are noticed soon, and stopping is bounded."""

import logging
import os
import signal
import threading
from typing import Any

from billiard import einfo
from billiard import pool as billiard_pool
from celery import bootsteps, signals

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often the pool looks for dead children; Celery's own 5 s are long for someone who waits."""


LAST_RESULT_SECONDS = 1.0
"""How long a child that leaves waits for its last result to be read."""


class PoolMonitor(bootsteps.StartStopStep):  # type: ignore[misc]
    """Makes the pool look for dead children often."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._timer: Any = None
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Look every half second; it costs a waitpid per child."""
        for process in consumer.pool._pool._pool:
            _keep_registrable(process)
        self._timer = consumer.timer.call_repeatedly(LOOK_SECONDS, consumer.pool._pool.maintain_pool)

    def stop(self, consumer: Any) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _keep_registrable(process: Any) -> None:
    """Give a child that was seen to die, and is in the pool still, something to be registered by.

    Celery registers every child when the consumer starts anew, and after a lost connection ends on one without.
    """
    if getattr(process, "_sentinel_poll", 0) is None:
        process._sentinel_poll, closed = os.pipe()
        # At its end already: the event loop is told at once that the child is over.
        os.close(closed)


def bound_shutdown(drain_seconds: float) -> None:
    """From the first SIGTERM on, running batches have this long; then what still runs goes back to the queue.

    Celery's own soft shutdown would sleep for the whole time, whether or not something still runs.
    """

    def arm(how: str, **_: Any) -> None:
        if how != "Warm":
            return
        logger.info("stopping: running batches have %g s", drain_seconds)
        timer = threading.Timer(drain_seconds, os.kill, (os.getpid(), signal.SIGQUIT))
        timer.daemon = True
        timer.start()

    signals.worker_shutting_down.connect(arm, weak=False)
    # A child that leaves waits for its last result to be read. A batch that was handed over in the very moment of the
    # SIGTERM is forgotten by the main process (its message goes back), and billiard's child would wait 30 s in vain.
    billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = round(
        LAST_RESULT_SECONDS / billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL
    )


def keep_failures_small() -> None:
    """Let a child tell of a failed task in what its pipe to the main process takes at once (64 KiB).

    billiard sends the position of every instruction of every frame, which nobody reads: 70 kB with the text if it is
    Redis that failed. While the main process looks for a lost broker it reads nothing, so the child would wait in the
    middle of it. There the soft time limit, which is noticed when the broker is back, interrupts it, the child tells of
    that, and the main process ends on the mixture of the two.
    """
    einfo.Traceback = _no_frames


def _no_frames(_: Any) -> None:
    """What is told of a failure is the exception and its traceback as text."""
