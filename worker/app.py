"""The worker: Celery with a prefork pool, the models loaded before the fork. Started by `python -m worker`."""

import gc
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from billiard.util import get_pdeathsig
from celery import Celery, signals
from celery.worker import state
from kombu import Exchange, Queue
from threadpoolctl import threadpool_limits

from headrace.errors import ModelError
from headrace.models.alias import served_alias
from headrace.models.artifact_cache import ArtifactCache
from headrace.models.store import ModelStore
from shared.observability.logs import set_up_logging
from shared.observability.multiprocess import forget_predecessor, name_files_by
from shared.queue.celery_app import make_celery
from shared.queue.contract import COMMON_GROUP, Lane, queue_name
from shared.settings import load_settings
from worker.consumer.celery_logging import keep_logging_as_it_is
from worker.consumer.crashes import LostBatches
from worker.consumer.dispatch import DispatchStep
from worker.consumer.heartbeat import HeartbeatStep
from worker.consumer.pool import PoolMonitor, bound_shutdown, keep_failures_small
from worker.consumer.watchdog import Pulse, Watchdog
from worker.execution.batch_runner import BatchRunner
from worker.execution.tasks import register_tasks
from worker.metrics.server import start_metrics_server
from worker.metrics.worker import WorkerMetrics, metrics_shard
from worker.model.cache import PredictorCache
from worker.model.refresher import Refresher
from worker.settings import WorkerSettings

logger = logging.getLogger("worker.app")  # run as __main__


def create_worker(settings: WorkerSettings) -> Celery:
    """A Celery application with the models loaded and everything wired; nothing is connected yet.

    Raises:
        ModelError: if the default model, or one that it is pinned to, can't be loaded.
    """
    store = ModelStore(
        settings.model_store,
        ArtifactCache(settings.model_cache_dir, settings.model_cache_max_bytes),
        (SoftTimeLimitExceeded,),
    )
    name_files_by(metrics_shard)
    metrics = WorkerMetrics()
    predictors = PredictorCache(
        store, settings.worker_memory_budget_bytes, frozenset(settings.pinned_models), settings.trust
    )
    predictors.on_load = metrics.count_load
    for name in settings.pinned_models or [settings.default_model]:
        manifest = store.manifest(name, served_alias(store.aliases(name)))
        # The children share these pages: a model is in memory once per worker.
        predictors.get(name, manifest.version)

    app = make_celery(settings)
    app.amqp_cls = "worker.consumer.transport:Amqp"
    app.conf.broker_transport = "worker.consumer.transport:Transport"
    if settings.worker_max_tasks_per_child:
        app.conf.worker_max_tasks_per_child = settings.worker_max_tasks_per_child
    bulk_slots = max(1, settings.worker_concurrency - settings.worker_interactive_slots)
    queues = consumed_queues(settings.pinned_models)
    options = {"bulk_slots": bulk_slots, "pulse": Pulse(len(queues))}
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **options}
    app.headrace_settings = settings
    app.conf.task_queues = [Queue(name, Exchange(""), routing_key=name) for name in queues]
    app.steps["consumer"].update([HeartbeatStep, DispatchStep, PoolMonitor, Watchdog])
    bound_shutdown(settings.worker_drain_seconds)
    keep_failures_small()
    children: list[BatchRunner] = []
    register_tasks(app, lambda: children[0])
    _connect_signals(settings, store, predictors, metrics, children)
    return app


def consumed_queues(pinned_models: list[str]) -> list[str]:
    """The Redis lists that a worker consumes: the common ones, or those of its models."""
    return [queue_name(lane, pool) for lane in Lane for pool in pinned_models or [COMMON_GROUP]]


def worker_name() -> str:
    """What the main process of this worker calls itself."""
    # celery-exporter looks at what follows the @ only: without the process, workers of one machine would be one to it.
    return f"worker@{socket.gethostname()}-{os.getpid()}"


def count_error(store: ModelStore, metrics: WorkerMetrics, model: str, version: str, code: str, rows: int) -> None:
    """Count rows that were lost, in the main process: from the manifest, for a load there would end up in every child.

    Without a manifest they are logged and not counted.
    """
    try:
        manifest = store.manifest(model, version)
    except ModelError as error:
        logger.warning("%d rows of %s %s not counted as %s: %s", rows, model, version, code, error)
        return
    metrics.model(manifest).count_error(code, rows)


def share_pages(**_: Any) -> None:
    """Before the first fork: a page is shared until someone writes to it, so the collector must not.

    What billiard asks in each child makes it import a C parser where cffi is installed, so it is asked here first.
    """
    with suppress(OSError):
        get_pdeathsig()
    gc.collect()
    gc.freeze()


def _connect_signals(
    settings: WorkerSettings,
    store: ModelStore,
    predictors: PredictorCache,
    metrics: WorkerMetrics,
    children: list[BatchRunner],
) -> None:
    if settings.tracing:
        # Before the fork, so that the children share it; their spans are made after it.
        import_module("worker.execution.tracing")
    name = worker_name()
    refreshers: list[Refresher] = []

    def start_child(**_: Any) -> None:
        forget_predecessor(metrics_shard())
        metrics.children_started.inc()
        threadpool_limits(1)
        child = BatchRunner(settings.redis_url, predictors, metrics, settings.lease_seconds, settings.result_max_bytes)
        if settings.tracing:
            child.start_tracing()
        child.warm_up()
        children.append(child)
        refresher = Refresher(f"{name}/{metrics_shard()}", settings.redis_url, store, predictors, metrics.loaded)
        refresher.start()
        refreshers.append(refresher)

    def end_child(**_: Any) -> None:
        for refresher in refreshers:
            refresher.stop()
        for child in children:
            child.stop_tracing()
        forget_predecessor(metrics_shard())

    stop_serving: list[Callable[[], None]] = []

    def serve_metrics(**_: Any) -> None:
        stop_serving.append(start_metrics_server(settings.worker_metrics_host, settings.worker_metrics_port))
        logger.info("metrics on http://%s:%d/metrics", settings.worker_metrics_host, settings.worker_metrics_port)

    def stop_serving_metrics(**_: Any) -> None:
        for stop in stop_serving:
            stop()

    lost = LostBatches(settings.redis_url, partial(count_error, store, metrics))
    # Celery keeps weak references to receivers; these closures would be gone at once.
    signals.celeryd_after_setup.connect(share_pages, weak=False)
    signals.worker_process_init.connect(start_child, weak=False)
    signals.worker_process_shutdown.connect(end_child, weak=False)
    signals.worker_ready.connect(serve_metrics, weak=False)
    signals.worker_shutdown.connect(stop_serving_metrics, weak=False)
    signals.task_failure.connect(lost.on_task_failure, weak=False)


def main() -> None:
    """Run until a signal ends it."""
    settings = load_settings(WorkerSettings)
    set_up_logging("worker", settings.log_level, settings.log_format)
    keep_logging_as_it_is()
    try:
        app = create_worker(settings)
    except ModelError as error:
        sys.exit(f"headrace: {error}")
    main_process = os.getpid()
    controllers: list[Any] = []
    signals.celeryd_after_setup.connect(lambda instance, **_: controllers.append(instance), weak=False)
    try:
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=prefork",
                f"--concurrency={settings.worker_concurrency}",
                f"--queues={','.join(consumed_queues(settings.pinned_models))}",
                f"--hostname={worker_name()}",
                f"--loglevel={settings.log_level}",
                "--without-gossip",
                "--without-mingle",
            ]
        )
    finally:
        if os.getpid() == main_process and os.environ.get("HEADRACE_OWNS_MULTIPROC_DIR"):
            shutil.rmtree(settings.prometheus_multiproc_dir, ignore_errors=True)
    # Celery drops its exit code on the way.
    sys.exit(state.should_stop or next((each.exitcode for each in controllers), 0) or 0)


if __name__ == "__main__":
    main()
