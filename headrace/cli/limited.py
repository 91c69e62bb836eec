"""Work on an artifact, or another file that may hold anything, in a process of its own with a limit of time."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from headrace.errors import HeadraceError
from headrace.terminal import reason

STOPS = (signal.SIGINT, signal.SIGTERM)

ORPHANED_SECONDS = 10.0
"""Seconds beyond its limit after which the kernel ends a process that its parent has not ended."""


def within(seconds: float, label: str, work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a process of its own; the process and those that it started are ended then.

    Code that holds the interpreter's lock can't be interrupted from within its process, and may crash it.

    Args:
        seconds: the time that the work may take.
        label: a name for the work, for the errors.
        work: a function that returns a value of JSON.

    Raises:
        HeadraceError: with the text of the HeadraceError or OSError of the work, or if the work takes longer, or its
            process ends without an answer.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, sender, seconds))
    with receiver, _stopping():
        held_back = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            with warnings.catch_warnings():
                # Python warns of the threads of BLAS, which is prepared for forks.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            # From here on a signal that stops the command finds the process to end.
            signal.pthread_sigmask(signal.SIG_SETMASK, held_back)
            sender.close()
            content = receiver.recv_bytes() if receiver.poll(seconds) else None
        except EOFError:
            content = b""
        finally:
            _end(process)
            signal.pthread_sigmask(signal.SIG_SETMASK, held_back)
    if content is None:
        raise HeadraceError(f"{label}: it takes longer than {seconds:g} s, and was ended (--timeout)")
    if not content:
        raise HeadraceError(f"{label}: its process ended {_cause(process.exitcode or 0)}")
    answer = json.loads(content)
    if "error" in answer:
        raise HeadraceError(answer["error"])
    return answer["value"]


def _answer(work: Callable[[], Any], sender: Connection, seconds: float) -> None:
    # A group of its own holds the processes that libraries start, and gets no CTRL+C of the terminal.
    os.setpgid(0, 0)
    for number in (signal.SIGALRM, *STOPS):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    signal.setitimer(signal.ITIMER_REAL, seconds + ORPHANED_SECONDS)
    answer: dict[str, Any]
    try:
        answer = {"value": work()}
    except (HeadraceError, OSError) as error:
        answer = {"error": reason(error)}
    sender.send_bytes(json.dumps(answer).encode())


def _end(process: BaseProcess) -> None:
    """End a process that has started, with its group, before its id can be that of another one."""
    if process.pid is None:
        return
    # joblib's tracker of temporary files ignores SIGTERM, and removes them when the others have ended.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    process.kill()
    process.join()


def _cause(code: int) -> str:
    return f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code} and no answer"


@contextmanager
def _stopping() -> Iterator[None]:
    """Exit as usual on SIGTERM, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
