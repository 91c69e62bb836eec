"""Celery's pool of child processes: cheap forks, dead children noticed soon, small failure messages."""

import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from billiard import einfo
from billiard.util import get_pdeathsig, set_pdeathsig
from celery import bootsteps

logger = logging.getLogger(__name__)

MAINTAIN_SECONDS = 0.5
"""Time between two looks for dead children; Celery's own 5 s are long for a caller that waits for an answer."""

PAUSE_SECONDS_MAX = 30.0
"""Longest time until children are started again that died before they were ready."""


def share_pages(**_: Any) -> None:
    """Keep the memory that children inherit from being copied; receives Celery's `celeryd_after_setup`.

    A page is shared with the children until somebody writes to it, so the garbage collector must not. It is enabled
    from here on, for what is made later.
    """
    # Every child calls this function of billiard's. It imports a C parser where cffi is installed: imported before the
    # fork, the parser is shared too.
    with suppress(OSError):
        get_pdeathsig()
    gc.collect()
    gc.freeze()
    gc.enable()


def end_with_parent() -> None:
    """End this process when its parent ends, also by SIGKILL, where the system can do so."""
    with suppress(OSError):
        set_pdeathsig(signal.SIGKILL)


class RestartPauses:
    """The pauses of a pool whose children die before they are ready: half a second, and twice as long each time.

    Without them such a child is forked again at once, some ten times a second, for ever. A child that was ready is
    replaced at once.
    """

    def __init__(self, pool: Any, on_death: Callable[[Any], None] = lambda _: None) -> None:
        """Take over a pool's start of children; `on_death` is called with each child that was found dead."""
        self._pool = pool
        self._on_death = on_death
        self._join, self._start = pool._join_exited_workers, pool._repopulate_pool
        self._starting: set[Any] = set()
        self._deaths = 0
        self._until = float("-inf")
        pool._join_exited_workers, pool._repopulate_pool = self._join_dead, self._start_missing

    def _join_dead(self, shutdown: bool = False) -> Any:
        """Join the dead children as the pool does, and note whether they were ready before."""
        starting, children = set(self._pool._waiting_to_start), [*self._pool._pool]
        if self._starting - starting:
            self._deaths = 0
        exit_codes = self._join(shutdown)
        for child in children:
            if child not in self._pool._pool:
                self._on_death(child)
        died = starting.difference(self._pool._pool)
        if died and time.monotonic() >= self._until:
            self._deaths += 1
            pause_seconds = min(MAINTAIN_SECONDS * 2 ** (self._deaths - 1), PAUSE_SECONDS_MAX)
            self._until = time.monotonic() + pause_seconds
            logger.error(
                "a pool child died before it was ready, %d times in a row: the next starts in %g s",
                self._deaths,
                pause_seconds,
            )
        return exit_codes

    def _start_missing(self, exit_codes: Any) -> None:
        """Start the children that are missing as the pool does, unless there is a pause."""
        if time.monotonic() >= self._until:
            self._start(exit_codes)
        self._starting = set(self._pool._waiting_to_start)


class PoolMonitor(bootsteps.StartStopStep):  # type: ignore[misc]
    """Step of Celery's consumer that makes the pool look for dead children often, and pause where they can't start."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._timer: Any = None
        self._pauses: RestartPauses | None = None
        self._load_of = consumer.app.headrace_load_of
        self._answer_for = consumer.app.headrace_on_child_death
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Look every half second; a look costs one waitpid per child."""
        if self._pauses is None:
            self._pauses = RestartPauses(consumer.pool._pool, self._on_death)
        # Celery would end the worker if a child has died since the fork; it is replaced like any other.
        consumer.pool.did_start_ok = _did_start
        for process in consumer.pool._pool._pool:
            _keep_registrable(process)
        self._timer = consumer.timer.call_repeatedly(MAINTAIN_SECONDS, consumer.pool._pool.maintain_pool)

    def _on_death(self, child: Any) -> None:
        """Answer for what a dead child held, and log which version it was loading if its own timer has ended it."""
        self._answer_for(child)
        if child.exitcode == -signal.SIGALRM:
            version = self._load_of(child.pid) or "a version"
            logger.error("pool child %d ended: it loaded %s for longer than MODEL_LOAD_SECONDS", child.pid, version)

    def stop(self, consumer: Any) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _did_start() -> bool:
    """Return True in the place of a look at the children."""
    return True


def _keep_registrable(process: Any) -> None:
    """Give a child that is dead, but still in the pool, a file descriptor to be registered by.

    Celery registers every child when the consumer starts again after a lost connection, and ends the worker if one of
    them has no descriptor.
    """
    if getattr(process, "_sentinel_poll", 0) is None:
        process._sentinel_poll, closed = os.pipe()
        # The pipe is at its end, so the event loop sees at once that the child is dead.
        os.close(closed)


def keep_failures_small() -> None:
    """Keep a child's report of a failed task small enough for its pipe to the main process (64 KiB).

    billiard sends the position of every instruction of every frame, which nobody reads: 70 kB with the text when Redis
    has failed. The main process reads nothing while it looks for a lost broker, so the child would block in the middle
    of the report. There the soft time limit, which is noticed when the broker is back, interrupts it; the child reports
    that too, and the main process ends on the mixture of the two reports.
    """
    einfo.Traceback = _no_frames


def _no_frames(_: Any) -> None:
    """Replace the frames of a failure by nothing: the exception and its traceback as text are enough."""
