"""The refresher of a pool child: it keeps the predictors in step with the store's aliases, and sends heartbeats.

It loads a version before the gateways follow its alias: no caller waits for the load. Heartbeats come from a thread of
their own, because a gateway takes a child without one for no child, and would follow an alias to a version that this
child still loads.
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
"""Seconds after its last use until a version is dropped that no alias names any more."""

EVICTION_COOLDOWN_SECONDS = 60.0
"""Seconds for which the refresher does not load a version that was evicted, or that evicted others; callers may."""


class Refresher(threading.Thread):
    """A thread that sends a heartbeat every second, with one that follows the aliases as often as the store permits."""

    def __init__(
        self,
        name: str,
        redis_url: str,
        store: ModelStore,
        predictors: PredictorCache,
        on_loaded: Callable[[Iterable[Manifest]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the thread.

        Args:
            name: The name of the pool child in its heartbeats.
            redis_url: The broker.
            store: The model store.
            predictors: The predictors of this process.
            on_loaded: A function that is called at every heartbeat with the versions in memory.
            clock: Seconds of a clock that never goes back.
        """
        super().__init__(name="refresher", daemon=True)
        self._child_name = name
        self._store = store
        self._predictors = predictors
        self._on_loaded = on_loaded
        self._redis = connect(redis_url, retries=0)
        self._loader = threading.Thread(target=self._follow_aliases, name="loader", daemon=True)
        self._stopping = threading.Event()
        self._changed = threading.Event()
        """Set when the next heartbeat is due before its second is over: a load has ended, or the child stops."""
        self._clock = clock
        self._last_loaded: set[Key] = set()
        """Versions in memory at the end of the last refresh."""
        self._cooldown_until: dict[Key, float] = {}
        self._damaged: dict[str, list[str]] = {}
        """Model -> why aliases of it could not be read at the last refresh."""

    def run(self) -> None:
        """Refresh and send heartbeats until `stop`."""
        self._loader.start()
        while not self._stopping.is_set():
            self._changed.clear()
            try:
                self.send_heartbeat()
            except Exception:
                logger.exception("a heartbeat failed; the next one is sent in a second")
            self._changed.wait(HEARTBEAT_SECONDS)

    def _follow_aliases(self) -> None:
        while True:
            try:
                self.refresh()
            except Exception:
                logger.exception("refreshing the models failed; it will be tried again")
            if self._stopping.wait(max(HEARTBEAT_SECONDS, self._store.look_seconds)):
                return

    def stop(self) -> None:
        """End the threads, and remove the heartbeat from Redis."""
        self._stopping.set()
        self._changed.set()
        self.join(timeout=2.0)
        if self._loader.is_alive():
            self._loader.join(timeout=2.0)
        self._predictors.stop()
        try:
            self._redis.hdel(keys.CHILDREN, self._child_name)
        except redis.RedisError as error:
            logger.info("heartbeat not removed: %s", type(error).__name__)

    def refresh(self) -> None:
        """Load the versions that aliases of the models in memory name; drop idle versions that no alias names.

        Versions that do not fit into memory together would evict each other at every refresh. So a version that was
        evicted, or evicted others, is loaded again only after EVICTION_COOLDOWN_SECONDS.
        """
        loaded = self._loaded()
        # Between two refreshes only a load for a caller drops a version: it evicted these.
        self._start_cooldown(self._last_loaded - loaded)
        self._last_loaded = loaded
        wanted = {key for name in {name for name, _ in loaded} for key in self._wanted(name)}
        for key in sorted(wanted - loaded):
            if key not in self._cooldown_until:
                self._load(key)
        wanted_names, held_names = ({name for name, _ in keys} for keys in (wanted, wanted & self._loaded()))
        for name, version in loaded - wanted:
            # A child without any version of a model would not follow its aliases: until it has a wanted one, it keeps
            # the old one, which still answers if the new one is refused.
            if name in wanted_names - held_names:
                continue
            if self._predictors.idle_seconds(name, version) > IDLE_SECONDS:
                self._predictors.drop(name, version)
                logger.info("dropped %s %s", name, version)
        self._last_loaded = self._loaded()

    def _wanted(self, name: str) -> set[Key]:
        """Return the versions that the aliases of a model name; also those in memory if an alias can't be read."""
        damaged: list[str] = []
        try:
            records = self._store.alias_records(name, lambda _, error: damaged.append(str(error)))
        except ModelError as error:
            records = {}
            damaged.append(str(error))
        wanted = {(name, version) for record in records.values() for version in record.versions}
        if damaged != self._damaged.get(name, []):
            self._damaged[name] = damaged
            for reason in damaged:
                logger.warning("model store: %s", reason)
        return wanted | {key for key in self._loaded() if damaged and key[0] == name}

    def _loaded(self) -> set[Key]:
        return {(each.manifest.name, each.manifest.version) for each in self._predictors.loaded()}

    def _load(self, key: Key) -> None:
        before = self._loaded()
        # The cache logs and remembers a refusal, and the heartbeat reports it.
        with suppress(ModelError):
            self._predictors.follow(*key)
        self._changed.set()
        evicted = before - self._loaded()
        if evicted:
            self._start_cooldown({key, *evicted})

    def _start_cooldown(self, versions: Collection[Key]) -> None:
        now = self._clock()
        self._cooldown_until = {key: until for key, until in self._cooldown_until.items() if until > now}
        self._cooldown_until.update(dict.fromkeys(versions, now + EVICTION_COOLDOWN_SECONDS))

    def send_heartbeat(self) -> None:
        """Write the loaded and refused versions of this child to Redis."""
        predictors = self._predictors.loaded()
        self._on_loaded(predictor.manifest for predictor in predictors)
        try:
            seconds, microseconds = self._redis.time()
            heartbeat = ChildHeartbeat(
                at=seconds + microseconds / 1e6,
                loaded=sorted(map(str, predictors)),
                refused={f"{name} {version}": reason for (name, version), reason in self._predictors.refused().items()},
            )
            self._redis.hset(keys.CHILDREN, self._child_name, heartbeat.model_dump_json())
        except redis.RedisError as error:
            logger.warning("heartbeat not sent: %s", type(error).__name__)
