"""The predictors of a process: loaded on demand, within a memory budget, the least recently used going first."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from headrace.errors import ModelError, ModelNotFound, StoreUnavailable
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from worker.model.allow_list import AllowList
from worker.model.predictor import Predictor

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
"""How long a version that could not be loaded is refused without another try."""

STORE_RETRY_SECONDS = 1.0
"""The same where the model store did not answer, which passes."""

REFUSED_KEPT = 100

Key = tuple[str, str]

LoadObserver = Callable[[Manifest | None, float | None], None]
"""Told of each load: the manifest, if the store has the version, and the seconds that it took, None if refused."""


@dataclass
class _Resident:
    predictor: Predictor
    used_at: float


@dataclass(frozen=True)
class _Refusal:
    reason: str
    until: float


class PredictorCache:
    """Predictors by name and version. Any thread may use it; a fork must not happen while another thread does.

    A lookup of what is loaded never waits for a load; one load runs at a time, so that two do not add up their peaks.
    """

    def __init__(
        self,
        store: ModelStore,
        budget_bytes: int,
        pinned: frozenset[str] = frozenset(),
        trust: AllowList | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`budget_bytes` bounds the sum of `Predictor.size_bytes`; `pinned` names the only models it takes, if any."""
        self._store = store
        self._budget_bytes = budget_bytes
        self._pinned = pinned
        self._trust = trust or AllowList()
        self._clock = clock
        self._residents: OrderedDict[Key, _Resident] = OrderedDict()
        """The least recently used first."""
        self._refusals: dict[Key, _Refusal] = {}
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()
        self.on_load: LoadObserver = lambda _manifest, _seconds: None

    def get(self, name: str, version: str) -> Predictor:
        """The predictor of a version, loaded if it is not in memory.

        Raises:
            ModelError: if this process does not take the model, or can't load it, or could not a moment ago.
        """
        key = (name, version)
        found = self._lookup(key)
        if found is not None:
            return found
        with self._load_lock:
            # Another thread may have loaded it while this one waited.
            found = self._lookup(key)
            return found if found is not None else self._load(key)

    def drop(self, name: str, version: str) -> None:
        """Forget a version and why it was refused; batches that run with it keep it until they are done."""
        with self._lock:
            self._residents.pop((name, version), None)
            self._refusals.pop((name, version), None)

    def loaded(self) -> list[Predictor]:
        """All predictors in memory, the least recently used first."""
        with self._lock:
            return [resident.predictor for resident in self._residents.values()]

    def refused(self) -> dict[Key, str]:
        """Versions whose last load failed, and why; until one succeeds or they are dropped."""
        with self._lock:
            return {key: refusal.reason for key, refusal in self._refusals.items()}

    def idle_seconds(self, name: str, version: str) -> float:
        """Seconds since a version was last asked for; infinite if it is not in memory."""
        with self._lock:
            resident = self._residents.get((name, version))
            return float("inf") if resident is None else self._clock() - resident.used_at

    def _lookup(self, key: Key) -> Predictor | None:
        with self._lock:
            resident = self._residents.get(key)
            if resident is not None:
                resident.used_at = self._clock()
                self._residents.move_to_end(key)
                return resident.predictor
            refusal = self._refusals.get(key)
        if self._pinned and key[0] not in self._pinned:
            raise ModelError(f"this worker serves {', '.join(sorted(self._pinned))} only")
        if refusal is not None and self._clock() < refusal.until:
            raise ModelError(refusal.reason)
        return None

    def _load(self, key: Key) -> Predictor:
        manifest = None
        started = time.perf_counter()
        try:
            manifest = self._store.manifest(*key)
            if manifest.version != key[1]:
                raise ModelNotFound(f"{key[1]!r} is an alias of {key[0]!r}, not a version")
            # Before it is read, so that old and new need not fit in at once; the artifact is about what it will take.
            self._make_room(manifest.artifact.size_bytes, f"{key[0]} {key[1]}")
            predictor = Predictor.load(self._store, manifest, self._trust)
            self._make_room(predictor.size_bytes, str(predictor))
        except ModelError as error:
            retry_seconds = STORE_RETRY_SECONDS if isinstance(error, StoreUnavailable) else RETRY_SECONDS
            self._refuse(key, str(error), self._clock() + retry_seconds)
            self.on_load(manifest, None)
            raise
        seconds = time.perf_counter() - started
        with self._lock:
            self._residents[key] = _Resident(predictor, self._clock())
            self._refusals.pop(key, None)
        logger.info("loaded %s in %.2f s (about %.1f MB)", predictor, seconds, predictor.size_bytes / 1e6)
        self.on_load(manifest, seconds)
        return predictor

    def _make_room(self, size_bytes: int, label: str) -> None:
        if size_bytes > self._budget_bytes:
            raise ModelError(
                f"{label}: takes about {size_bytes / 1e6:.1f} MB, more than WORKER_MEMORY_BUDGET_BYTES "
                f"({self._budget_bytes / 1e6:.1f} MB)"
            )
        with self._lock:
            while sum(each.predictor.size_bytes for each in self._residents.values()) + size_bytes > self._budget_bytes:
                _, resident = self._residents.popitem(last=False)
                logger.info("dropped %s to make room", resident.predictor)

    def _refuse(self, key: Key, reason: str, until: float) -> None:
        with self._lock:
            known = self._refusals.pop(key, None)
            self._refusals[key] = _Refusal(reason, until)
            if len(self._refusals) > REFUSED_KEPT:
                del self._refusals[next(iter(self._refusals))]
        # Tried again every few seconds: once is enough.
        if known is None or known.reason != reason:
            logger.error("refused %s %s: %s", *key, reason)
