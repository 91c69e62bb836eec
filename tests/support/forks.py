"""Forked processes, for tests of what the children of a worker share."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_SECONDS = 60
"""Seconds after which a child ends in any case."""


def _forked(function: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        # From 3.12 on Python warns of forks of a process that has threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LONGEST_SECONDS)
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def in_child(function: Callable[[], object], on_start: Callable[[int], object] = lambda _: None) -> int:
    """Call a function in a child, and return the child's exit code: 1 if the function raises, -9 after a SIGKILL.

    `on_start` is called with the child's process id.

    The function must not predict: OpenMP hangs in a child if its parent has used several threads.
    """
    pid = _forked(function)
    on_start(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def in_paused_child(function: Callable[[Callable[[], None]], object]) -> Iterator[None]:
    """Call a function in a child, up to the place where it calls its argument, and kill the child at the end."""
    told, tell = os.pipe()

    def paused() -> None:
        os.write(tell, b"!")
        time.sleep(LONGEST_SECONDS)

    pid = _forked(lambda: function(paused))
    os.close(tell)
    try:
        assert os.read(told, 1) == b"!"
        yield
    finally:
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
