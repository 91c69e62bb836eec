"""On PYTHONPATH, Python imports this when it starts: signals make a worker hang, or stop to consume queues.

A SIGRTMIN cancels all queues, the next signal those of bulk. After the one behind that the main thread does nothing
any more.
"""

import signal
import time
from types import FrameType


def hang(_number: int, _frame: object) -> None:
    """For longer than any test."""
    time.sleep(3600)


def cancel(number: int, frame: FrameType | None) -> None:
    """Cancel the queues in the event loop of Celery's consumer, which is among the callers of this."""
    while frame is not None and frame.f_code.co_name != "asynloop":
        frame = frame.f_back
    if frame is None:
        return
    consumer = frame.f_locals["obj"]
    for queue in consumer.app.conf.task_queues:
        if number == signal.SIGRTMIN or queue.name.startswith("bulk"):
            consumer.call_soon(consumer.cancel_task_queue, queue.name)


signal.signal(signal.SIGRTMIN, cancel)
signal.signal(signal.SIGRTMIN + 1, cancel)
signal.signal(signal.SIGRTMIN + 2, hang)
