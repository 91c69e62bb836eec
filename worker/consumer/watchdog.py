"""A worker that has stopped consuming ends, so that whoever supervises it starts a new one.

A thread of the main process watches, for the event loop may be what hangs. While all is well it takes no lock: the main
process forks meanwhile, and a lock that was held at that moment would be held in the child for ever.
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
from worker.redis_client import connect

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

STOP_SECONDS = 10.0
"""What a worker may take to stop beyond the time that running batches have; then it is ended by force."""

EXIT_CODE = os.EX_TEMPFAIL
"""Not 0: supervisors that restart after a failure only must start this one too."""


class Pulse:
    """Signs that the event loop consumes. It counts them, and the watch looks whether there are more than before."""

    def __init__(self, n_queues: int) -> None:
        self.beats = 0
        self._n_queues = n_queues

    def __json__(self) -> int:
        """For remote control, which tells of the transport's options, of which this is one."""
        return self.beats

    def polled(self, n_queues: int) -> None:
        """The broker has answered what this worker asks for tasks, or for none of them within a second."""
        # Of fewer queues it would be half a worker.
        if n_queues >= self._n_queues:
            self.beats += 1

    def connecting(self) -> None:
        """The worker looks for its broker: that one is to blame."""
        self.beats += 1


class Silence:
    """For how long there was no sign, and whether that is too long.

    With a child that is free the worker must be seen to consume within `free_seconds`; with none within `busy_seconds`,
    which is longer by what a task may take.
    """

    def __init__(self, free_seconds: float, busy_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = free_seconds, busy_seconds
        self._clock = clock
        self._looked_at = clock()
        self._signs: object = None
        self.free_seconds = self.busy_seconds = 0.0

    def is_too_long(self, signs: object, busy: bool) -> bool:
        """Look; called every LOOK_SECONDS. `signs` are others than before if anything was consumed meanwhile."""
        now = self._clock()
        # Longer ago only if this process was stopped or starved, and then the event loop was too.
        passed = min(now - self._looked_at, 2 * LOOK_SECONDS)
        self._looked_at = now
        if signs != self._signs:
            self._signs = signs
            self.free_seconds = self.busy_seconds = 0.0
            return False
        self.free_seconds = 0.0 if busy else self.free_seconds + passed
        self.busy_seconds += passed
        return self.free_seconds >= self._limits[0] or self.busy_seconds >= self._limits[1]


class Watchdog(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's consumer: from its first start on a thread watches, whatever becomes of the connection."""

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
        """Watch; once is enough."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, args=(consumer,), name="stall watch", daemon=True)
            self._thread.start()

    def _watch(self, consumer: Any) -> None:
        while not is_stopping():
            busy = len(state.reserved_requests) >= self._settings.worker_concurrency
            # A task that begins is a sign too: what waited in hand while others ran comes from no poll.
            if self._silence.is_too_long((self._pulse.beats, state.all_total_count[0]), busy):
                self._end(consumer)
            time.sleep(LOOK_SECONDS)

    def _end(self, consumer: Any) -> None:
        """Stop as after a SIGTERM, so that running batches end; by force if that does not work."""
        patience_seconds = self._settings.worker_drain_seconds + STOP_SECONDS
        # Not even a log that blocks keeps it: this timer needs neither locks nor the interpreter.
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
        # They would outlive it, where nobody ends its group or container.
        with suppress(OSError):
            for pid in live_children(os.getpid()):
                os.kill(pid, signal.SIGKILL)
        os._exit(EXIT_CODE)


def is_stopping() -> bool:
    """Whether the worker was told to end."""
    # Exit codes as they are set, of which 0 is one.
    return any(code is not None and code is not False for code in (state.should_stop, state.should_terminate))


def place_of_main_thread() -> str:
    """Where its innermost call is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "its end"
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
