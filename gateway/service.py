"""All parts of a running gateway, wired; the app's routes find them here."""

import asyncio
import logging
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway.admission import JobsAdmission, WaitingRows
from gateway.api_keys import KeyRing
from gateway.background import BackgroundLoops
from gateway.bodies import Bodies
from gateway.canary import Canary
from gateway.catalog import Catalog, ServedModel
from gateway.coalescer import Coalescer
from gateway.connection import BLOCKING_READ_SECONDS, COMMAND_SECONDS, connect
from gateway.connections import Connections
from gateway.exchange import Exchange
from gateway.fleet import REFRESH_SECONDS, Fleet
from gateway.guard import Guard
from gateway.jobs import Jobs
from gateway.metrics import GatewayMetrics
from gateway.queue_stats import QueueMonitor
from gateway.reconciler import Reconciler
from gateway.rows import RowParser
from gateway.settings import GatewaySettings
from gateway.slots import Pools
from gateway.trials import Shadows
from gateway.wire import Wire
from shared import keys
from shared.broker import make_celery
from shared.clock import BrokerClock
from shared.contract import Lane
from shared.manifest import Manifest
from shared.model_store import ModelStore

if TYPE_CHECKING:
    from gateway.tracing import RequestTracing

logger = logging.getLogger(__name__)


def _request_tracing(clock: BrokerClock) -> "RequestTracing":
    # Not above: nothing of OpenTelemetry's is loaded if nobody asked for it.
    from gateway.tracing import RequestTracing

    return RequestTracing(clock.now)


class Service:
    """Built once per process, started and stopped with the app."""

    def __init__(self, settings: GatewaySettings, store: ModelStore) -> None:
        """Wire everything.

        Raises:
            KeyFileError: if there is a file of API keys that can't be used.
        """
        self.settings = settings
        self._keys = KeyRing(settings.api_keys_file) if settings.api_keys_file is not None else None
        self.guard = Guard(self._keys)
        self.redis = connect(settings.redis_url, COMMAND_SECONDS)
        self._publisher = Wire(settings.redis_url, COMMAND_SECONDS)
        self._reader = Wire(settings.redis_url, BLOCKING_READ_SECONDS)
        self._listener = connect(settings.redis_url, BLOCKING_READ_SECONDS)
        self._pubsub = self._listener.pubsub(ignore_subscribe_messages=True)
        self.clock = BrokerClock()
        self.tracing = _request_tracing(self.clock) if settings.tracing else None
        self.metrics = GatewayMetrics(settings.gateway_processes > 1)
        self.bodies = Bodies(settings.body_max_bytes, settings.bodies_max_bytes)
        self.connections = Connections(settings, self.metrics.rejected)
        self.fleet = Fleet(self.redis, self.clock)
        self.pools = Pools(self.fleet.slots_of)
        self.exchange = Exchange(self.redis, self._publisher, self._reader, make_celery(settings), self.clock)
        self.catalog = Catalog(store, settings.default_model, self.fleet, self._serve)
        self._jobs_admission = JobsAdmission(settings)
        self.jobs = Jobs(self.redis, self.exchange, self.pools, self._jobs_admission, settings)
        self.canary = Canary(lambda: self.catalog.default.manifest, self.exchange, self.pools, self.clock)
        self.shadows = Shadows(self.redis, self.exchange, self.pools, self.metrics.shadow_rows_dropped.inc)
        self.monitor = QueueMonitor(self.redis, self.clock, self.fleet)
        self._reconciler = Reconciler(self.redis, self.exchange, self.pools, self.clock, settings.job_check_seconds)
        self._loops = BackgroundLoops()
        self._waiting = WaitingRows(settings.waiting_rows_max)
        self.metrics.registry.register(self.monitor)
        self.metrics.waiting = lambda: self._waiting.rows
        self.metrics.waiting_rows_limit.set(settings.waiting_rows_max)
        self.metrics.jobs_open_limit.set(settings.jobs_open_max)

    def _serve(self, manifest: Manifest) -> ServedModel:
        self.metrics.know(manifest.name)
        return ServedModel(
            manifest,
            RowParser(manifest, self.settings.rows_max),
            Coalescer(manifest, self.exchange, self.pools, self.clock, self._waiting, self.settings),
        )

    async def start(self) -> None:
        """Start the background loops; Redis need not be there yet."""
        if self.tracing is not None:
            self.tracing.start()
        for name, step in {
            "fleet": self._fleet_step,
            "catalog": self.catalog.step,
            "shadows": self.shadows.step,
            "replies": self.exchange.read_step,
            "ended jobs": self._listen_step,
            "reconciler": self._reconcile_step,
            "connections": self.connections.step,
        }.items():
            self._loops.start(name, step)
        if self._keys is not None:
            self._loops.start("API keys", self._keys.step)

    async def stop(self) -> None:
        """Stop the loops and close the connections."""
        await self._loops.stop()
        try:
            await self.exchange.forget()
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            logger.info("reply stream left to expire: %s", type(error).__name__)
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        for client in (self.redis, self._publisher, self._reader, self._listener):
            await client.aclose()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    async def trouble(self) -> str | None:
        """Why predictions can't be served now, or None: asks Redis, the announcements, then the queue itself."""
        if not (await self.monitor.refresh()).broker_up:
            return "Redis does not answer"
        if not self.pools.of(self.catalog.default_model).total:
            return "no worker is running"
        return await self.canary.trouble()

    async def _fleet_step(self) -> None:
        # Where another of several processes is asked for metrics, it sees of this one what is written.
        self.metrics.write()
        try:
            await self.fleet.refresh()
            self.pools.wake()
            self._jobs_admission.look(*await self.monitor.jobs())
        finally:
            # If the broker does not answer, nobody is known to work.
            self._jobs_admission.judge(self.fleet.slots)
            waits = {Lane.INTERACTIVE: self._rows_wait_seconds(), Lane.BULK: self._jobs_admission.wait_seconds}
            for lane, seconds in waits.items():
                self.metrics.estimated_wait_seconds.labels(lane.value).set(seconds)
        await asyncio.sleep(REFRESH_SECONDS)

    def _rows_wait_seconds(self) -> float:
        longest = self.settings.wait_max_seconds
        if not self.fleet.slots:
            return longest
        return min(longest, max(served.coalescer.wait_seconds for served in self.catalog.served))

    async def _reconcile_step(self) -> None:
        await self._reconciler.step(lambda action: self.metrics.reconciled.labels(action).inc())

    async def _listen_step(self) -> None:
        if not self._pubsub.subscribed:
            await self._pubsub.subscribe(keys.JOBS_ENDED)
        message = await self._pubsub.get_message(timeout=1.0)
        if message is not None:
            await self.jobs.watch.wake(message["data"].decode().split())
