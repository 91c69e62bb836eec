"""The end of a worker: how long running batches have, and the exit code."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from billiard import active_children
from billiard import pool as billiard_pool
from celery import Celery, signals
from celery.worker import state

logger = logging.getLogger(__name__)

LAST_RESULT_SECONDS = 1.0
"""Time that a child that ends waits for the main process to read its last result."""


CHILDREN_END_SECONDS = 5.0
"""Time that children have to end once their batches went back to the queue; then they are killed."""


def run(app: Celery, arguments: list[str]) -> int:
    """Run Celery's command line until the worker ends, and return the worker's exit code.

    Celery drops the code on the way: a code that was asked for is in `celery.worker.state`, the code of a worker that
    failed is its controller's.
    """
    controllers: list[Any] = []
    signals.celeryd_after_setup.connect(lambda instance, **_: controllers.append(instance), weak=False)
    app.worker_main(arguments)
    code: int = state.should_stop or next((each.exitcode for each in controllers), 0) or 0
    return code


def is_stopping() -> bool:
    """Return True if the worker was asked to end."""
    # Celery stores exit codes here, and 0 is one of them.
    return any(code is not None and code is not False for code in (state.should_stop, state.should_terminate))


def bound_shutdown(drain_seconds: float) -> None:
    """Give running batches `drain_seconds` from the first SIGTERM on; then what still runs goes back to the queue.

    Celery's own soft shutdown would sleep for the whole time, even if nothing runs any more. It also waits for ever for
    a child in whose code no signal is handled, such as one in a load that holds the interpreter's lock.
    """

    def start_timer(how: str, **_: Any) -> None:
        if how != "Warm":
            return
        logger.info("stopping: running batches have %g s", drain_seconds)
        _call_after(drain_seconds, os.kill, os.getpid(), signal.SIGQUIT)
        _call_after(drain_seconds + CHILDREN_END_SECONDS, _kill_children)

    signals.worker_shutting_down.connect(start_timer, weak=False)
    # A child that ends waits until its last result was read. The main process forgets a batch that it dispatched in
    # the moment of the SIGTERM (the message goes back to the queue), so billiard's child would wait 30 s in vain.
    billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = round(
        LAST_RESULT_SECONDS / billiard_pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL
    )


def _call_after(seconds: float, function: Callable[..., object], *args: Any) -> None:
    timer = threading.Timer(seconds, function, args)
    timer.daemon = True
    timer.start()


def _kill_children() -> None:
    for child in active_children():
        logger.error("pool child %d does not end: it is killed", child.pid)
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
