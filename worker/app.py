"""The worker: loads the models, then runs Celery with a pool of forked children. Started by `python -m worker`."""

import logging
import os
import shutil
import signal
import socket
import sys
import time
from importlib import import_module
from typing import Any

from celery import Celery, signals
from celery.exceptions import SoftTimeLimitExceeded
from kombu import Exchange, Queue
from threadpoolctl import threadpool_limits

from headrace.errors import ModelError, ModelNotFound
from headrace.models.alias import served_alias
from headrace.models.artifact_cache import ArtifactCache
from headrace.models.store import ModelStore
from shared.broker_check import check_broker
from shared.observability.logs import set_up_logging
from shared.observability.multiprocess import name_files_by
from shared.queue.celery_app import make_celery
from shared.queue.contract import COMMON_GROUP, Lane, queue_name
from shared.settings import load_settings
from worker.consumer.celery_logging import keep_logging_as_it_is
from worker.consumer.crashes import LostBatches, Request
from worker.consumer.dispatch import DispatchStep
from worker.consumer.heartbeat import HeartbeatStep
from worker.consumer.pool import PoolMonitor, end_with_parent, keep_failures_small, share_pages
from worker.consumer.remote_control import RemoteControl
from worker.consumer.shutdown import bound_shutdown, run
from worker.consumer.watchdog import Pulse, Watchdog
from worker.execution.chain import ChainBoard
from worker.execution.tasks import register_tasks
from worker.metrics.server import start_metrics_server
from worker.metrics.worker import WorkerMetrics, metrics_shard
from worker.model.cache import PredictorCache
from worker.pool_child import PoolChild
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

WARM_UP_TIMES_LOAD = 10.0
"""Loads of the models in whose time a pool child must have started, beyond the time of one without models."""


def create_worker(settings: WorkerSettings) -> Celery:
    """Return a Celery application with the models loaded and everything wired; nothing is connected yet.

    Raises:
        ModelError: if there is no store, or a model that the worker is pinned to, or a default model that is there,
            can't be loaded.
    """
    store = ModelStore(
        settings.model_store,
        ArtifactCache(settings.model_cache_dir, settings.model_cache_max_bytes),
        (SoftTimeLimitExceeded,),
    )
    name_files_by(metrics_shard)
    metrics = WorkerMetrics()
    began_at = time.monotonic()
    predictors = _load_predictors(settings, store, metrics)
    app = _make_app(settings, time.monotonic() - began_at)
    app.headrace_load_of = predictors.load_of
    board = ChainBoard(settings.worker_concurrency)
    queues = consumed_queues(settings.pinned_models)
    child = PoolChild(worker_name(), settings, store, predictors, metrics, queues, board)
    register_tasks(app, lambda: child.runner)
    lost = LostBatches(settings.redis_url, metrics.count_lost, board, worker_name())
    app.headrace_on_child_death = lost.on_child_death
    signals.worker_shutting_down.connect(lambda **_: board.stop(), weak=False)
    signals.worker_shutdown.connect(lambda **_: lost.give_back(settings.worker_concurrency), weak=False)
    _connect_signals(settings, child, lost)
    return app


def consumed_queues(pinned_models: list[str]) -> list[str]:
    """Return the Redis lists that a worker consumes: the common ones, or those of its models."""
    return [queue_name(lane, group) for lane in Lane for group in pinned_models or [COMMON_GROUP]]


def worker_name() -> str:
    """Return the name of the worker whose main process this is."""
    # celery-exporter reads only what follows the @: without the process id it would take the workers of one machine
    # for one.
    return f"worker@{socket.gethostname()}-{os.getpid()}"


def _load_predictors(settings: WorkerSettings, store: ModelStore, metrics: WorkerMetrics) -> PredictorCache:
    predictors = PredictorCache(
        store,
        settings.worker_memory_budget_bytes,
        frozenset(settings.pinned_models),
        settings.allow_list,
        load_seconds=settings.model_load_seconds,
    )
    predictors.on_load = metrics.count_load
    # Loaded before the fork, a model is in memory once per worker: the children share its pages.
    for name in settings.pinned_models:
        preload(store, predictors, name)
    if not settings.pinned_models:
        try:
            preload(store, predictors, settings.default_model)
        except ModelNotFound as error:
            if not store.exists():
                raise
            logger.error("DEFAULT_MODEL: %s; other models are served", error)
    return predictors


def preload(store: ModelStore, predictors: PredictorCache, name: str) -> None:
    """Load the version by which a model is served, or if it is refused the last one before it that is not.

    So a worker that starts serves the same version as one that was there when the alias moved.

    Raises:
        ModelError: if there is no such model, its alias is damaged, or all these versions are refused: why the first
            one is.
    """
    damaged: dict[str, ModelError] = {}
    records = store.alias_records(name, damaged.__setitem__)
    alias = served_alias([*records, *damaged])
    record = records.get(alias)
    # Without a record, reading the manifest raises what is wrong.
    versions = [record.version, *record.previous] if record else [store.manifest(name, alias).version]
    refusal: ModelError | None = None
    for version in versions:
        if version != versions[-1]:
            _rehearse(predictors, name, version)
        try:
            predictors.get(name, version)
        except ModelError as error:
            refusal = refusal or error
        else:
            return
    assert refusal is not None
    raise refusal


def _rehearse(predictors: PredictorCache, name: str, version: str) -> None:
    """Load a version in a child that then ends.

    A load that never ends, or takes all memory, thus ends the child and not this process, where the journal of loads
    refuses the version from then on.
    """
    logger.info("%s %s is loaded in a child process first", name, version)
    pid = os.fork()
    if pid == 0:
        try:
            end_with_parent()
            threadpool_limits(1)
            logging.disable()
            predictors.on_load = lambda _manifest, _seconds: None
            predictors.get(name, version)
        finally:
            # The main process loads the version next, and raises the same error.
            os._exit(0)
    os.waitpid(pid, 0)


def _make_app(settings: WorkerSettings, load_seconds: float) -> Celery:
    app = make_celery(settings)
    # Each child predicts the samples again, all at a time: one that is not up by then is killed and forked again.
    app.conf.worker_proc_alive_timeout += WARM_UP_TIMES_LOAD * load_seconds
    app.headrace_settings = settings
    app.Task.Request = Request
    app.amqp_cls = "worker.consumer.transport:Amqp"
    app.conf.broker_transport = "worker.consumer.transport:Transport"
    if settings.worker_max_tasks_per_child:
        app.conf.worker_max_tasks_per_child = settings.worker_max_tasks_per_child
    queues = consumed_queues(settings.pinned_models)
    app.conf.task_queues = [Queue(name, Exchange(""), routing_key=name) for name in queues]
    bulk_slots = max(1, settings.worker_concurrency - settings.worker_interactive_slots)
    options = {"bulk_slots": bulk_slots, "pulse": Pulse(len(queues))}
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **options}
    app.steps["consumer"].update([HeartbeatStep, DispatchStep, PoolMonitor, RemoteControl, Watchdog])
    bound_shutdown(settings.worker_drain_seconds)
    keep_failures_small()
    return app


def _connect_signals(settings: WorkerSettings, child: PoolChild, lost: LostBatches) -> None:
    if settings.tracing:
        # Imported before the fork, so that the children share its memory; spans are made after it.
        import_module("worker.execution.tracing")

    def serve_metrics(**_: Any) -> None:
        stop = start_metrics_server(settings.worker_metrics_host, settings.worker_metrics_port)
        logger.info("metrics on http://%s:%d/metrics", settings.worker_metrics_host, settings.worker_metrics_port)
        signals.worker_shutdown.connect(lambda **_: stop(), weak=False)

    # By default Celery keeps only weak references to receivers, and these would be gone at once.
    signals.celeryd_after_setup.connect(share_pages, weak=False)
    signals.worker_process_init.connect(child.start, weak=False)
    signals.worker_process_shutdown.connect(child.stop, weak=False)
    signals.worker_ready.connect(serve_metrics, weak=False)
    signals.task_failure.connect(lost.on_task_failure, weak=False)


def main() -> None:
    """Run the worker until a signal ends it."""
    settings = load_settings(WorkerSettings)
    set_up_logging("worker", settings.log_level, settings.log_format)
    check_broker(settings.redis_url)
    keep_logging_as_it_is()
    # SIGALRM ends a process whose load takes too long, unless the worker is started with this signal ignored.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        app = create_worker(settings)
    except ModelError as error:
        sys.exit(f"headrace: {error}")
    main_process = os.getpid()
    arguments = [
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
    try:
        exit_code = run(app, arguments)
    finally:
        # Children leave through here too.
        if os.getpid() == main_process and os.environ.get("HEADRACE_OWNS_MULTIPROC_DIR"):
            shutil.rmtree(settings.prometheus_multiproc_dir, ignore_errors=True)
    sys.exit(exit_code)
