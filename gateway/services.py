"""All parts of a running gateway, wired; the app's routes get them from here."""

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway.admission.jobs import JobsAdmission
from gateway.admission.scaling import BUSY_SECONDS, ScalingSignal, Waiting
from gateway.auth.api_keys import KeyRing
from gateway.auth.guard import Guard
from gateway.background import BackgroundLoops
from gateway.batching.batcher import Batcher
from gateway.batching.slots import WorkerGroups
from gateway.broker.batch_client import BatchClient
from gateway.broker.master_watch import MasterWatch
from gateway.broker.raw_connection import RawConnection
from gateway.broker.redis_client import BLOCKING_READ_SECONDS, COMMAND_SECONDS, connect
from gateway.broker.stats import JobsState, QueueMonitor
from gateway.broker.workers import REFRESH_SECONDS, Workers
from gateway.catalog.answer_size import answer_row_bytes
from gateway.catalog.catalog import Catalog
from gateway.catalog.row_parser import RowParser
from gateway.catalog.served_model import ServedModel
from gateway.catalog.shadows import Shadows
from gateway.fairness.answers import PIECE_BYTES, AnswerBudget
from gateway.fairness.bodies import BodyReader
from gateway.fairness.budget import Budget
from gateway.fairness.turns import OwnerTurns
from gateway.jobs.listing import JobListing
from gateway.jobs.reader import JobReader
from gateway.jobs.reconciler import Reconciler
from gateway.jobs.retention import JobRetention
from gateway.jobs.service import JobService
from gateway.metrics import GatewayMetrics
from gateway.readiness import ReadinessProbe
from gateway.settings import GatewaySettings
from gateway.web.graceful_stop import GracefulStop
from gateway.web.slow_clients import ConnectionMonitor
from headrace.errors import ManifestInvalid
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.celery_app import make_celery
from shared.queue.contract import Lane, queue_name

if TYPE_CHECKING:
    from gateway.tracing import RequestTracing

logger = logging.getLogger(__name__)

VALUE_BYTES = 8
"""Bytes of a value in a body, about, with its name."""

REPLY_BYTES = 1_000_000
"""Bytes of the reply to a batch of several rows at most: parsing one holds up the event loop for some 5 ms."""

BATCH_VALUES_MAX = 1_000_000
"""Values in a batch of several rows at most: packed, they are 11 MB in Redis."""


def _request_tracing(clock: BrokerClock) -> "RequestTracing":
    # Imported here: OpenTelemetry is loaded only if TRACING is on.
    from gateway.tracing import RequestTracing

    return RequestTracing(clock.now)


class Services:
    """The parts of a gateway process; built once, started and stopped with the app."""

    def __init__(self, settings: GatewaySettings, store: ModelStore) -> None:
        """Wire everything.

        Raises:
            KeyFileError: if the file of API keys can't be used.
            ModelError: if the file of public keys can't be used.
        """
        self.settings = settings
        self._store = store
        self._signers = settings.signers
        self._keys = KeyRing(settings.api_keys_file) if settings.api_keys_file is not None else None
        self.guard = Guard(self._keys)
        self.redis = connect(settings.redis_url, COMMAND_SECONDS)
        self._publisher = RawConnection(settings.redis_url, COMMAND_SECONDS)
        self._reader = RawConnection(settings.redis_url, BLOCKING_READ_SECONDS)
        self._listener = connect(settings.redis_url, BLOCKING_READ_SECONDS)
        self._pubsub = self._listener.pubsub(ignore_subscribe_messages=True)
        self.clock = BrokerClock()
        self.tracing = _request_tracing(self.clock) if settings.tracing else None
        self.metrics = GatewayMetrics(settings.gateway_processes > 1)
        self.body_reader = BodyReader(settings.body_max_bytes, settings.bodies_max_bytes)
        self.parse_turns = OwnerTurns(pauses=True)
        """Turns of large bodies at being parsed, which blocks the event loop: a body of 4 MB for up to 0.3 s."""
        self.answers = AnswerBudget(settings.answers_max_bytes, self.metrics.rejected, OwnerTurns().of)
        self.connections = ConnectionMonitor(settings, self.metrics.rejected)
        self._clients = (self.redis, self._publisher, self._reader, self._listener)
        self._master_watch = MasterWatch(settings.redis_url, self._clients, self.metrics.master_changes.inc)
        self.workers = Workers(self.redis, self.clock)
        self.worker_groups = WorkerGroups(self.workers)
        self.batch_client = BatchClient(self.redis, self._publisher, self._reader, make_celery(settings), self.clock)
        self.catalog = Catalog(store, settings.default_model, self.workers, self._serve)
        self._jobs_admission = JobsAdmission(settings)
        self.jobs = JobService(self.redis, self.batch_client, self.workers, self._jobs_admission, settings)
        self.job_reader = JobReader(self.redis, PIECE_BYTES)
        self.graceful_stop = GracefulStop(self.connections, self.job_reader.waiters.release)
        count_dropped = self.metrics.shadow_rows_dropped.inc
        self.shadows = Shadows(self.redis, self.batch_client, self.workers, settings.lease_seconds, count_dropped)
        self.job_listing = JobListing(self.redis, self.clock, settings)
        self.monitor = QueueMonitor(self.redis, self.clock, self.workers)
        self.probe = ReadinessProbe(
            lambda: self.catalog.default.manifest,
            self.batch_client,
            self.workers,
            self.monitor,
            self.clock,
            settings.lease_seconds,
        )
        self.scaling = ScalingSignal(round(BUSY_SECONDS / REFRESH_SECONDS))
        self._jobs_state: JobsState | None = None
        self._retention = JobRetention(self.redis, self.clock, settings)
        self._reconciler = Reconciler(self.redis, self.batch_client, self.workers, self.clock, settings, self._tidy)
        self._loops = BackgroundLoops()
        self._waiting = Budget(settings.waiting_rows_max)
        self.metrics.registry.register(self.monitor)
        self.metrics.waiting = lambda: self._waiting.held
        self.metrics.waiting_rows_limit.set(settings.waiting_rows_max)
        self.metrics.jobs_open_limit.set(settings.jobs_open_max)
        self.metrics.workers_expected.set(settings.workers)

    def _serve(self, manifest: Manifest) -> ServedModel:
        """Make a version; called in a thread, as the parser of thousands of features takes a while.

        Raises:
            ModelError: if it must be signed and is not, the store does not answer, or its manifest is of no use.
        """
        if self._signers is not None:
            manifest = self._signers.check(self._store, manifest)
        try:
            served = self._made(manifest)
        except Exception as error:
            # Anyone may have written it, and only the code that uses a field finds some of its mistakes.
            raise ManifestInvalid(f"{type(error).__name__} while its manifest was used") from error
        self.metrics.know(manifest.name)
        return served

    def _made(self, manifest: Manifest) -> ServedModel:
        settings = self.settings
        # A single row is taken, however long its answer is.
        rows_max = min(settings.rows_max, max(1, settings.answer_max_bytes // answer_row_bytes(manifest)))
        batch_rows_max = min(
            settings.batch_rows_max,
            max(1, REPLY_BYTES // answer_row_bytes(manifest)),
            max(1, BATCH_VALUES_MAX // len(manifest.features)),
        )
        for_batches = settings.model_copy(update={"batch_rows_max": batch_rows_max})
        # Where values may be left out, there are no more rows either than a body has room for with all of them.
        rows_max = min(rows_max, max(1, settings.body_max_bytes // (VALUE_BYTES * len(manifest.features))))
        return ServedModel(
            manifest,
            RowParser(manifest, rows_max, settings.text_max_characters),
            Batcher(manifest, self.batch_client, self.worker_groups, self.clock, self._waiting, for_batches),
        )

    async def start(self) -> None:
        """Start the background loops; Redis need not be reachable yet."""
        self.graceful_stop.take_over()
        if self.tracing is not None:
            self.tracing.start()
        for name, step in {
            "master": self._master_watch.step,
            "workers": self._workers_step,
            "catalog": self.catalog.step,
            "shadows": self.shadows.step,
            "replies": self.batch_client.read_step,
            "ended jobs": self._listen_step,
            "reconciler": self._reconcile_step,
            "connections": self.connections.step,
        }.items():
            self._loops.start(name, step)
        if self._keys is not None:
            self._loops.start("API keys", self._keys.step)

    async def stop(self) -> None:
        """Stop the loops and close the connections."""
        await self.graceful_stop.close()
        await self._loops.stop()
        try:
            await self.batch_client.delete_replies()
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            logger.info("reply stream left to expire: %s", type(error).__name__)
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        for client in self._clients:
            await client.aclose()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    async def trouble(self) -> str | None:
        """Return why predictions can't be served now, or None; check Redis, the workers' heartbeats, then the queue."""
        if self.graceful_stop.begun:
            return "the gateway is stopping"
        if not (await self.monitor.refresh()).broker_up:
            return "Redis does not answer"
        if self.catalog.lacks_default:
            return f"the model store has no model {self.catalog.default_model}, which DEFAULT_MODEL names"
        if not self.workers.slots_of(self.workers.group_for(self.catalog.default_model)):
            return "no worker is running"
        return await self.probe.trouble()

    async def _workers_step(self) -> None:
        # Of several processes, the one that is asked for metrics sees only what the others have written.
        self.metrics.write()
        try:
            await self.workers.refresh()
            self.worker_groups.follow_workers()
            state = self._jobs_state = await self.monitor.read_jobs()
            memory_seconds = await self._retention.memory_seconds(state)
            self._jobs_admission.observe(state.waiting, state.ended, state.memory_share, memory_seconds)
            self._jobs_admission.limits = self._retention.limits(state)
        finally:
            # If the broker does not answer, no worker is known.
            self._jobs_admission.decide(self.workers.slots)
            rows, jobs = self._waiting_rows(), self._waiting_jobs()
            longest = max((each.seconds for each in rows.values()), default=0.0)
            for lane, seconds in {Lane.INTERACTIVE: longest, Lane.BULK: jobs.seconds}.items():
                # Without a worker there is no pace to estimate from.
                self.metrics.estimated_wait_seconds.labels(lane.value).set(seconds if self.workers.slots else math.nan)
            if self.workers.known:
                self.scaling.observe(self.workers.heartbeats.values(), rows, jobs)
        await asyncio.sleep(REFRESH_SECONDS)

    def _waiting_rows(self) -> dict[str, Waiting]:
        """Return the interactive rows that wait in this process, by model."""
        rows: dict[str, Waiting] = {}
        for served in self.catalog.served:
            name, batcher = served.manifest.name, served.batcher
            number, seconds = rows.get(name, Waiting())
            longest = max(seconds, min(batcher.wait_seconds, self.settings.wait_max_seconds))
            rows[name] = Waiting(number + batcher.waiting_rows, longest)
        return rows

    def _waiting_jobs(self) -> Waiting:
        return Waiting(self._jobs_state.waiting if self._jobs_state else 0, self._jobs_admission.wait_seconds)

    async def _reconcile_step(self) -> None:
        await self._reconciler.step(lambda action: self.metrics.reconciled.labels(action).inc())

    async def _tidy(self) -> None:
        if self._jobs_state is not None:
            queues = [queue_name(lane, group) for lane in Lane for group in self.workers.groups]
            await self._retention.tidy(self._jobs_state, queues)

    async def _listen_step(self) -> None:
        if not self._pubsub.subscribed:
            await self._pubsub.subscribe(keys.JOBS_ENDED)
        message = await self._pubsub.get_message(timeout=1.0)
        if message is not None:
            await self.job_reader.waiters.wake(message["data"])
