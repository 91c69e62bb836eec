"""The Celery tasks: each decodes its message, runs it, and answers for it if an exception ends it early."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from shared.errors import PredictionError
from shared.observability.logs import PRIVATE
from shared.queue.contract import (
    PREDICT_TASK,
    RUN_JOBS_TASK,
    SHADOW_TASK,
    ErrorCode,
    PredictMessage,
    RunJobsMessage,
    ShadowMessage,
)
from worker.execution.batch_runner import BatchRunner
from worker.execution.chain import Batch
from worker.model.loader import contained, name_of

logger = logging.getLogger(__name__)

TIME_LIMIT = PredictionError(ErrorCode.TIME_LIMIT.value, "the batch ran longer than its time limit")


def register_tasks(app: Celery, runner: Callable[[], BatchRunner]) -> None:
    """Register the tasks; `runner` returns the batch runner of the pool child, once the child has started."""

    # A shared task would be registered in every Celery application of this process.
    @app.task(name=PREDICT_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    @_interruptible()
    def predict(self: Any, payload: str) -> None:
        message = _decoded(PredictMessage, payload)
        if message is None:
            return
        first = Batch(message, getattr(self.request, "traces", None))
        for batch in runner().chain.run(first, self.request.delivery_info["routing_key"], self.request.id):
            with _answered(partial(runner().fail_calls, batch.message)):
                runner().predict(*batch)

    @app.task(name=RUN_JOBS_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    @_interruptible()
    def run_jobs(self: Any, payload: str) -> None:
        message = _decoded(RunJobsMessage, payload)
        if message is None:
            return
        with _answered(lambda error: runner().fail_jobs(error)):
            delivery = self.request.delivery_info
            runner().run_jobs(message, bool(delivery.get("redelivered")), delivery["routing_key"])

    @app.task(name=SHADOW_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    @_interruptible()
    def shadow(self: Any, payload: str) -> None:
        message = _decoded(ShadowMessage, payload)
        if message is not None:
            # No caller waits for a comparison: it just ends.
            with _answered(lambda _: None):
                runner().shadow(message, self.request.delivery_info["routing_key"])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the soft time limit interrupt a task, and nothing else.

    A main process that is busy learns late that a task has ended. Its signal would end the child, which is idle.
    """
    signal.signal(signal.SIGUSR1, _end_softly)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _end_softly(*_: object) -> None:
    raise SoftTimeLimitExceeded


@contextmanager
def _answered(answer: Callable[[PredictionError], None]) -> Iterator[None]:
    """Give whatever ends a batch early to `answer` as an error, and log it.

    Celery must not see an exception of a model, or one for want of memory: it ends the worker over some (MemoryError),
    the pool child over others (SystemExit), and has the entry delivered again over others (Reject). It may see that
    Redis has failed, since then there is no answer, and the exception with which a child ends at a signal.
    """
    try:
        with contained():
            yield
    except SoftTimeLimitExceeded:
        answer(TIME_LIMIT)
    except redis.RedisError:
        raise
    except Exception as error:
        name = name_of(error)
        trace: Any = (type(error), error, error.__traceback__)
        logger.error("a batch failed: %s", name, exc_info=trace, extra=PRIVATE)
        answer(PredictionError(ErrorCode.PREDICTION_FAILED.value, f"the batch failed: {name}"))


def _decoded(message_class: Any, payload: str) -> Any:
    try:
        return message_class.from_json(payload)
    except (ValueError, MemoryError) as error:
        # A foreign message, or one of another version of the contract. Jobs are not lost: the reconciler publishes
        # them again.
        logger.error("dropped a %s that can't be read: %s", message_class.__name__, type(error).__name__)
        return None
