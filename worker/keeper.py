"""Keeps a pool child's predictors as the store's aliases say, and tells the gateways what is loaded.

A thread of the child: a version is in memory before the gateways follow its alias, so no caller waits for a load.
"""

import logging
import threading
import time

import redis

from shared import keys
from shared.announcement import ANNOUNCE_SECONDS, ChildAnnouncement
from shared.errors import ModelError
from shared.model_store import ModelStore
from worker.connection import connect
from worker.metrics import WorkerMetrics
from worker.predictor_cache import PredictorCache

logger = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
"""How long a version that no alias names any more is kept after its last use."""


class Keeper(threading.Thread):
    """Announces once a second, and looks at the store as often as that costs little."""

    def __init__(
        self, name: str, redis_url: str, store: ModelStore, predictors: PredictorCache, metrics: WorkerMetrics
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._announced_as = name
        self._store = store
        self._predictors = predictors
        self._metrics = metrics
        self._redis = connect(redis_url, retries=0)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Keep and announce until `stop`."""
        looked_at = float("-inf")
        while True:
            if time.monotonic() - looked_at >= self._store.look_seconds:
                looked_at = time.monotonic()
                try:
                    self.keep()
                except ModelError as error:
                    logger.warning("model store: %s", error)
                except Exception:
                    logger.exception("keeper failed, and goes on")
            self.announce()
            if self._stopping.wait(ANNOUNCE_SECONDS):
                return

    def stop(self) -> None:
        """End the thread, and take its announcement back."""
        self._stopping.set()
        self.join(timeout=2.0)
        try:
            self._redis.hdel(keys.CHILDREN, self._announced_as)
        except redis.RedisError as error:
            logger.info("announcement not taken back: %s", type(error).__name__)

    def keep(self) -> None:
        """Load what aliases of the models in memory name, and drop what none names and nobody used lately.

        Raises:
            ModelError: if the store does not answer.
        """
        loaded = {(p.manifest.name, p.manifest.version) for p in self._predictors.loaded()}
        wanted = {
            (name, version)
            for name in {name for name, _ in loaded}
            for record in self._store.alias_records(name).values()
            for version in record.versions
        }
        for name, version in sorted(wanted - loaded):
            try:
                predictor = self._predictors.get(name, version)
            except ModelError:
                # Logged and remembered by the cache, and announced below.
                continue
            self._metrics.model(predictor.manifest).loaded(time.time())
        for name, version in loaded - wanted:
            if self._predictors.idle_seconds(name, version) > IDLE_SECONDS:
                self._predictors.drop(name, version)
                logger.info("dropped %s %s", name, version)

    def announce(self) -> None:
        """Say what is loaded and what was refused."""
        try:
            seconds, microseconds = self._redis.time()
            said = ChildAnnouncement(
                at=seconds + microseconds / 1e6,
                loaded=sorted(str(predictor) for predictor in self._predictors.loaded()),
                refused={f"{name} {version}": why for (name, version), why in self._predictors.refused().items()},
            )
            self._redis.hset(keys.CHILDREN, self._announced_as, said.model_dump_json())
        except redis.RedisError as error:
            logger.warning("not announced: %s", type(error).__name__)
