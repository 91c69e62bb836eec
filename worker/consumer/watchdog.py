"""The watchdog: a worker that has stopped consuming ends, so that its supervisor starts a new one.

A thread of the main process watches, for it may be the event loop that hangs. As long as all is well the thread takes
no lock: the main process forks meanwhile, and a lock held at that moment would be held in the child for ever.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from celery import bootsteps, signals
from celery.worker import state

from shared.observability.processes import live_children
from shared.queue import keys
from shared.queue.heartbeat import STALLED
from worker.consumer.shutdown import is_stopping
from worker.redis_client import connect

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Time between two checks."""

STOP_SECONDS = 10.0
"""Time to stop beyond what running batches have; a worker that takes longer is ended by force."""

EXIT_CODE = os.EX_TEMPFAIL
"""Exit code of a stalled worker. Not 0: supervisors that restart only after a failure must start this one again too."""


class Pulse:
    """A count of the signs that the event loop consumes. The watchdog checks that it grows."""

    def __init__(self, n_queues: int) -> None:
        self.beats = 0
        self._n_queues = n_queues

    def polled(self, n_queues: int) -> None:
        """Count an answered poll of all `n_queues` queues; an answer may be empty, after a second."""
        # A worker that polls only some of its queues is half a worker.
        if n_queues >= self._n_queues:
            self.beats += 1

    def connecting(self) -> None:
        """Count a try to reach the broker: a worker that looks for its broker is not stalled."""
        self.beats += 1


class Silence:
    """The time since the last sign of consuming, and its limits.

    A worker with an idle child must consume within `idle_seconds`. Without one it must within `busy_seconds`, which is
    longer by the time that a task may take.
    """

    def __init__(self, idle_seconds: float, busy_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = idle_seconds, busy_seconds
        self._clock = clock
        self._checked_at = clock()
        self._signs: object = None
        self.idle_seconds = self.busy_seconds = 0.0

    def is_too_long(self, signs: object, busy: bool) -> bool:
        """Check, every CHECK_SECONDS, and return True if a limit is exceeded.

        Args:
            signs: A value that differs from the last one if anything was consumed meanwhile.
            busy: True if no child is idle.
        """
        now = self._clock()
        # The last check is longer ago only if this process was stopped or starved, and then its event loop was too.
        elapsed = min(now - self._checked_at, 2 * CHECK_SECONDS)
        self._checked_at = now
        if signs != self._signs:
            self._signs = signs
            self.idle_seconds = self.busy_seconds = 0.0
            return False
        self.idle_seconds = 0.0 if busy else self.idle_seconds + elapsed
        self.busy_seconds += elapsed
        return self.idle_seconds >= self._limits[0] or self.busy_seconds >= self._limits[1]


class Watchdog(bootsteps.StartStopStep):  # type: ignore[misc]
    """Step of Celery's consumer that watches on a thread, from the first start on and across lost connections."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        settings = consumer.app.headrace_settings
        self._settings = settings
        self._pulse: Pulse = consumer.app.conf.broker_transport_options["pulse"]
        self._silence = Silence(
            settings.worker_stalled_seconds, settings.worker_stalled_seconds + settings.task_time_limit_seconds
        )
        self._thread: threading.Thread | None = None
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Start the thread, unless it runs already: this is called after every lost connection."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, args=(consumer,), name="watchdog", daemon=True)
            self._thread.start()

    def _watch(self, consumer: Any) -> None:
        while not is_stopping():
            busy = len(state.reserved_requests) >= self._settings.worker_concurrency
            # A task that begins is a sign too: one that waited here while others ran is the answer to no poll.
            if self._silence.is_too_long((self._pulse.beats, state.all_total_count[0]), busy):
                self._end(consumer)
            time.sleep(CHECK_SECONDS)

    def _end(self, consumer: Any) -> None:
        """Stop as after a SIGTERM, so that running batches finish; by force if that does not work."""
        patience_seconds = self._settings.worker_drain_seconds + STOP_SECONDS
        # The last resort, even if writing to the log blocks: this timer needs neither locks nor the interpreter.
        faulthandler.dump_traceback_later(patience_seconds + STOP_SECONDS, exit=True)
        logger.error(
            "stalled: nothing was consumed for %.0f s, the event loop is at %s; the worker ends, to be started again",
            self._silence.busy_seconds,
            place_of_main_thread(),
        )
        with suppress(redis.RedisError):
            connect(self._settings.redis_url, retries=0).hincrby(keys.WORKER_COUNTS, STALLED, 1)
        signals.worker_shutting_down.send(sender=consumer.hostname, sig="SIGTERM", how="Warm", exitcode=EXIT_CODE)
        state.should_stop = EXIT_CODE
        time.sleep(patience_seconds)
        logger.error("the event loop hangs: ended by force")
        # The children would outlive this process if nothing ends its group or container.
        with suppress(OSError):
            for pid in live_children(os.getpid()):
                os.kill(pid, signal.SIGKILL)
        os._exit(EXIT_CODE)


def place_of_main_thread() -> str:
    """Return file, line and function of the main thread's innermost call."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "its end"
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
