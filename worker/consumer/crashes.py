"""What the main process does when a pool child died with a batch, or was killed at the hard time limit."""

import logging
from collections.abc import Callable
from typing import Any

import redis
from billiard.exceptions import TimeLimitExceeded, WorkerLostError

from shared.errors import PredictionError
from shared.queue import keys
from shared.queue.contract import PREDICT_TASK, RUN_JOBS_TASK, BatchReply, ErrorCode, PredictMessage, RunJobsMessage
from shared.queue.job_scripts import script
from shared.queue.replies import REPLIES_KEPT, REPLY_TTL_SECONDS, failure
from worker.redis_client import connect

logger = logging.getLogger(__name__)


class LostBatches:
    """Answers the callers of a lost batch at once, and gives its jobs back to the reconciler."""

    def __init__(self, redis_url: str, count_error: Callable[[str, str, str, int], None]) -> None:
        # The main process also consumes: it must not hang here. What is missed, deadlines and leases catch.
        self._redis = connect(redis_url, retries=0)
        self._release = self._redis.register_script(script("release"))
        self._count_error = count_error

    def on_task_failure(self, sender: Any, exception: BaseException, args: Any, **_: Any) -> None:
        """Receiver of Celery's `task_failure`, which the main process sends for these two only."""
        if not isinstance(exception, WorkerLostError | TimeLimitExceeded):
            return
        lost = isinstance(exception, WorkerLostError)
        try:
            if sender.name == PREDICT_TASK:
                self._answer(PredictMessage.model_validate_json(args[0]), lost)
            elif sender.name == RUN_JOBS_TASK:
                jobs = RunJobsMessage.model_validate_json(args[0]).jobs
                logger.error("%s with %d jobs: they will run again", type(exception).__name__, len(jobs))
                self._release(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, jobs)], args=jobs)
        except (redis.RedisError, ValueError) as error:
            logger.error("lost batch not reported: %s", type(error).__name__)

    def _answer(self, message: PredictMessage, lost: bool) -> None:
        reason = (
            PredictionError(ErrorCode.WORKER_LOST.value, "the process that computed it died")
            if lost
            else PredictionError(ErrorCode.TIME_LIMIT.value, "the batch ran longer than its time limit")
        )
        logger.error("%s: a batch of %d calls", reason.code, len(message.calls))
        self._count_error(message.model, message.version, reason.code, sum(call.n_rows for call in message.calls))
        reply = BatchReply(
            batch=message.batch, started_at=0.0, compute_seconds=0.0, results=[failure(reason)] * len(message.calls)
        )
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(message.reply_to, {"reply": reply.to_json()}, maxlen=REPLIES_KEPT, approximate=True)
            pipe.expire(message.reply_to, REPLY_TTL_SECONDS)
            pipe.execute()
