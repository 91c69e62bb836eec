"""The main process's answer for a batch that is lost: its pool child died, or was killed at the hard time limit."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import request

from shared.errors import PredictionError
from shared.queue import keys
from shared.queue.contract import PREDICT_TASK, RUN_JOBS_TASK, BatchReply, ErrorCode, PredictMessage, RunJobsMessage
from shared.queue.entry import read
from shared.queue.job_scripts import script
from shared.queue.replies import REPLIES_KEPT, REPLY_TTL_SECONDS, failure
from worker.execution.chain import ChainBoard
from worker.redis_client import connect

logger = logging.getLogger(__name__)


timed_out: set[int] = set()
"""Process ids of children that were killed at the hard time limit, until they are found dead."""


class Request(request.Request):  # type: ignore[misc]
    """A task in the hands of a child, as the main process sees it.

    If the child reports that it had no memory for the task, even to read its entry, the batch is lost; Celery would
    end the worker, and the next one that gets the entry.
    """

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Receive that a child has reached a time limit."""
        if not soft:
            timed_out.add(self.worker_pid)
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        """Receive a child's report that a task failed."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, MemoryError):
            try:
                raise WorkerLostError("the child had no memory for the task")
            except WorkerLostError:
                exc_info = ExceptionInfo()
        return super().on_failure(exc_info, *args, **options)


class LostBatches:
    """Receiver of lost batches that answers their callers at once, and gives their jobs back to the reconciler."""

    def __init__(
        self, redis_url: str, count_rows: Callable[[str, str, str, int], None], board: ChainBoard, worker: str
    ) -> None:
        """`count_rows` takes a model, its version, an error code and a number of rows; `worker` is its name."""
        self._board = board
        self._worker = worker
        # The main process also consumes, so it must not hang here: what it can't report, deadlines and leases catch.
        self._redis = connect(redis_url, retries=0)
        self._release = self._redis.register_script(script("release"))
        self._count_rows = count_rows

    def on_task_failure(self, sender: Any, task_id: str, exception: BaseException, args: Any, **_: Any) -> None:
        """Receive Celery's `task_failure`; the main process sends it for lost batches only."""
        if not isinstance(exception, WorkerLostError | TimeLimitExceeded):
            return
        lost = isinstance(exception, WorkerLostError)
        try:
            if sender.name == PREDICT_TASK and self._board.was_answered(task_id):
                # The child has lost a further batch of its chain, which `on_child_death` answers.
                return
            if sender.name == PREDICT_TASK:
                self._answer(PredictMessage.model_validate_json(args[0]), lost)
            elif sender.name == RUN_JOBS_TASK:
                jobs = RunJobsMessage.model_validate_json(args[0]).jobs
                logger.error("%s with %d jobs: they will run again", type(exception).__name__, len(jobs))
                self._release(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, jobs)], args=jobs)
        except (redis.RedisError, ValueError) as error:
            logger.error("lost batch not reported: %s", type(error).__name__)

    def on_child_death(self, child: Any) -> None:
        """Answer the callers of the batches that a dead child had taken itself."""
        lost = child.pid not in timed_out
        timed_out.discard(child.pid)
        held = keys.held(self._worker, child.index)
        try:
            entries: Any = self._redis.lrange(held, 0, -1)
            if entries:
                logger.error("pool child %d died with %d batches that it had taken itself", child.pid, len(entries))
            for entry in entries:
                found = read(entry)
                if found is not None and found.task == PREDICT_TASK:
                    self._answer(PredictMessage.from_json(found.payload), lost)
                self._redis.rpop(held)
        except (redis.RedisError, ValueError) as error:
            logger.error("lost batch not reported: %s", type(error).__name__)

    def give_back(self, children: int) -> None:
        """Give back what children that were killed at the end of the worker had taken themselves."""
        with suppress(redis.RedisError):
            for held in (keys.held(self._worker, child) for child in range(children)):
                entries: Any = self._redis.lrange(held, 0, -1)
                for entry in entries:
                    if (found := read(entry)) is not None:
                        self._redis.lmove(held, found.queue, "LEFT", "RIGHT")

    def _answer(self, message: PredictMessage, lost: bool) -> None:
        reason = (
            PredictionError(ErrorCode.WORKER_LOST.value, "the process that computed it died")
            if lost
            else PredictionError(ErrorCode.TIME_LIMIT.value, "the batch ran longer than its time limit")
        )
        logger.error("%s: a batch of %d calls", reason.code, len(message.calls))
        self._count_rows(message.model, message.version, reason.code, sum(call.n_rows for call in message.calls))
        reply = BatchReply(
            batch=message.batch, started_at=0.0, compute_seconds=0.0, results=[failure(reason)] * len(message.calls)
        )
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(message.reply_to, {"reply": reply.to_json()}, maxlen=REPLIES_KEPT, approximate=True)
            pipe.expire(message.reply_to, REPLY_TTL_SECONDS)
            pipe.execute()
