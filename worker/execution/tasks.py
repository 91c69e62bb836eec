"""The Celery tasks: decode the message, hand it to the child, and turn what ends a batch early into answers."""

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


def register_tasks(app: Celery, child: Callable[[], BatchRunner]) -> None:
    """Register the tasks; `child` gives the pool child's state once it has started."""

    # Not shared: other applications of this process would get them too.
    @app.task(name=PREDICT_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def predict(self: Any, payload: str) -> None:
        message = _decoded(PredictMessage, payload)
        if message is None:
            return
        try:
            child().predict(message, getattr(self.request, "traces", None))
        except SoftTimeLimitExceeded:
            child().fail_calls(message, TIME_LIMIT)

    @app.task(name=RUN_JOBS_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def run_jobs(self: Any, payload: str) -> None:
        message = _decoded(RunJobsMessage, payload)
        if message is None:
            return
        try:
            came = self.request.delivery_info
            child().run_jobs(message, bool(came.get("redelivered")), came["routing_key"])
        except SoftTimeLimitExceeded:
            child().jobs_out_of_time(TIME_LIMIT)

    @app.task(name=SHADOW_TASK, shared=False)  # type: ignore[untyped-decorator]
    def shadow(payload: str) -> None:
        message = _decoded(ShadowMessage, payload)
        if message is not None:
            # Past its time limit it simply ends: nobody waits for it.
            with suppress(SoftTimeLimitExceeded):
                child().shadow(message)


def _decoded(message_class: Any, payload: str) -> Any:
    try:
        return message_class.from_json(payload)
    except ValueError as error:
        # Not ours, or of another version. Jobs are safe: the reconciler publishes them again.
        logger.error("dropped a %s that can't be read: %s", message_class.__name__, type(error).__name__)
        return None
