"""The parts of the worker that every pool child has for itself."""

from collections.abc import Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from headrace.models.store import ModelStore
from shared.observability.multiprocess import forget_predecessor
from shared.queue import keys
from worker.execution.batch_runner import BatchRunner
from worker.execution.chain import ChainBoard, ChainOptions
from worker.metrics.worker import WorkerMetrics, child_index, metrics_shard
from worker.model.cache import PredictorCache
from worker.model.refresher import Refresher
from worker.settings import WorkerSettings


class PoolChild:
    """The batch runner and the refresher of a pool child, from its fork to its end.

    The main process makes one of these, and every child starts the copy that it inherited: connections and threads
    do not survive a fork.
    """

    def __init__(
        self,
        worker_name: str,
        settings: WorkerSettings,
        store: ModelStore,
        predictors: PredictorCache,
        metrics: WorkerMetrics,
        queues: Sequence[str],
        board: ChainBoard,
    ) -> None:
        self._queues = queues
        self._board = board
        self._worker_name = worker_name
        self._settings = settings
        self._store = store
        self._predictors = predictors
        self._metrics = metrics
        self._runner: BatchRunner | None = None
        self._refresher: Refresher | None = None

    @property
    def runner(self) -> BatchRunner:
        """The runner of this child's batches.

        Raises:
            RuntimeError: if the child has not started.
        """
        if self._runner is None:
            raise RuntimeError("the pool child has not started")
        return self._runner

    def start(self, **_: Any) -> None:
        """Warm up and start to refresh; receives Celery's signal `worker_process_init` after the fork."""
        settings, metrics = self._settings, self._metrics
        forget_predecessor(metrics_shard())
        metrics.children_started.inc()
        threadpool_limits(1)
        place = child_index() or 0
        # A child that is replaced after so many tasks counts batches by them.
        limit_seconds = 0.0 if settings.worker_max_tasks_per_child else settings.task_soft_time_limit_seconds
        runner = BatchRunner(
            settings.redis_url,
            self._predictors,
            metrics,
            settings.lease_seconds,
            settings.result_max_bytes,
            ChainOptions(keys.held(self._worker_name, place), self._queues, limit_seconds, self._board, place),
        )
        if settings.tracing:
            runner.start_tracing()
        runner.warm_up()
        self._runner = runner
        self._refresher = Refresher(
            f"{self._worker_name}/{metrics_shard()}",
            settings.redis_url,
            self._store,
            self._predictors,
            metrics.mark_loaded,
        )
        self._refresher.start()

    def stop(self, **_: Any) -> None:
        """End what `start` began, as far as it got; receives Celery's signal `worker_process_shutdown`."""
        if self._refresher is not None:
            self._refresher.stop()
        if self._runner is not None:
            self._runner.stop_tracing()
        forget_predecessor(metrics_shard())
