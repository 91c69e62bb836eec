"""On PYTHONPATH, Python imports this when it starts: after a SIGALRM the main thread does nothing any more."""

import signal
import time


def hang(_number: int, _frame: object) -> None:
    """For longer than any test."""
    time.sleep(3600)


signal.signal(signal.SIGALRM, hang)
