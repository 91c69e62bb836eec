"""Keeps a pool child's predictors as the store's aliases say, and tells the gateways what is loaded.

A thread of the child: a version is in memory before the gateways follow its alias, so no caller waits for a load.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import redis

from headrace.errors import ModelError
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.queue import keys
from shared.queue.heartbeat import HEARTBEAT_SECONDS, ChildHeartbeat
from worker.model.cache import Key, PredictorCache
from worker.redis_client import connect

logger = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
"""How long a version that no alias names any more is kept after its last use."""

CROWDED_SECONDS = 60.0
"""How long a version that had to make room, or for which others had to, is left to whoever asks for it."""


class Refresher(threading.Thread):
    """Announces once a second, and looks at the store as often as that costs little."""

    def __init__(
        self,
        name: str,
        redis_url: str,
        store: ModelStore,
        predictors: PredictorCache,
        on_loaded: Callable[[Iterable[Manifest]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._announced_as = name
        self._store = store
        self._predictors = predictors
        self._on_loaded = on_loaded
        self._redis = connect(redis_url, retries=0)
        self._stopping = threading.Event()
        self._clock = clock
        self._kept: set[Key] = set()
        """What was in memory after the last look."""
        self._crowded_until: dict[Key, float] = {}

    def run(self) -> None:
        """Keep and announce until `stop`."""
        looked_at = float("-inf")
        while True:
            if self._clock() - looked_at >= self._store.look_seconds:
                looked_at = self._clock()
                try:
                    self.keep()
                except ModelError as error:
                    logger.warning("model store: %s", error)
                except Exception:
                    logger.exception("keeper failed, and goes on")
            self.announce()
            if self._stopping.wait(HEARTBEAT_SECONDS):
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

        What does not fit in together is tried once in CROWDED_SECONDS, or it would be loaded and dropped all the time.

        Raises:
            ModelError: if the store does not answer.
        """
        loaded = self._loaded()
        self._note_crowded(self._kept - loaded)
        self._kept = loaded
        wanted = {
            (name, version)
            for name in {name for name, _ in loaded}
            for record in self._store.alias_records(name).values()
            for version in record.versions
        }
        for key in sorted(wanted - loaded):
            if key not in self._crowded_until:
                self._load(key)
        for name, version in loaded - wanted:
            if self._predictors.idle_seconds(name, version) > IDLE_SECONDS:
                self._predictors.drop(name, version)
                logger.info("dropped %s %s", name, version)
        self._kept = self._loaded()

    def _loaded(self) -> set[Key]:
        return {(each.manifest.name, each.manifest.version) for each in self._predictors.loaded()}

    def _load(self, key: Key) -> None:
        before = self._loaded()
        # An error is logged and remembered by the cache, and announced.
        with suppress(ModelError):
            self._predictors.get(*key)
        dropped = before - self._loaded()
        if dropped:
            self._note_crowded({key, *dropped})

    def _note_crowded(self, keys_: Collection[Key]) -> None:
        now = self._clock()
        self._crowded_until = {key: until for key, until in self._crowded_until.items() if until > now}
        self._crowded_until.update(dict.fromkeys(keys_, now + CROWDED_SECONDS))

    def announce(self) -> None:
        """Say what is loaded and what was refused."""
        predictors = self._predictors.loaded()
        self._on_loaded(predictor.manifest for predictor in predictors)
        try:
            seconds, microseconds = self._redis.time()
            said = ChildHeartbeat(
                at=seconds + microseconds / 1e6,
                loaded=sorted(map(str, predictors)),
                refused={f"{name} {version}": why for (name, version), why in self._predictors.refused().items()},
            )
            self._redis.hset(keys.CHILDREN, self._announced_as, said.model_dump_json())
        except redis.RedisError as error:
            logger.warning("not announced: %s", type(error).__name__)
