"""The Celery tasks: each decodes its message, runs it, and answers for it if the soft time limit ends it early."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from shared.errors import PredictionError
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

logger = logging.getLogger(__name__)

TIME_LIMIT = PredictionError(ErrorCode.TIME_LIMIT.value, "the batch ran longer than its time limit")


def register_tasks(app: Celery, runner: Callable[[], BatchRunner]) -> None:
    """Register the tasks; `runner` returns the batch runner of the pool child, once the child has started."""

    # A shared task would be registered in every Celery application of this process.
    @app.task(name=PREDICT_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def predict(self: Any, payload: str) -> None:
        message = _decoded(PredictMessage, payload)
        if message is None:
            return
        try:
            runner().predict(message, getattr(self.request, "traces", None))
        except SoftTimeLimitExceeded:
            runner().fail_calls(message, TIME_LIMIT)

    @app.task(name=RUN_JOBS_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def run_jobs(self: Any, payload: str) -> None:
        message = _decoded(RunJobsMessage, payload)
        if message is None:
            return
        try:
            delivery = self.request.delivery_info
            runner().run_jobs(message, bool(delivery.get("redelivered")), delivery["routing_key"])
        except SoftTimeLimitExceeded:
            runner().jobs_out_of_time(TIME_LIMIT)

    @app.task(name=SHADOW_TASK, shared=False)  # type: ignore[untyped-decorator]
    def shadow(payload: str) -> None:
        message = _decoded(ShadowMessage, payload)
        if message is not None:
            # No caller waits for a comparison: past its time limit it just ends.
            with suppress(SoftTimeLimitExceeded):
                runner().shadow(message)


def _decoded(message_class: Any, payload: str) -> Any:
    try:
        return message_class.from_json(payload)
    except ValueError as error:
        # A foreign message, or one of another version of the contract. Jobs are not lost: the reconciler publishes
        # them again.
        logger.error("dropped a %s that can't be read: %s", message_class.__name__, type(error).__name__)
        return None
