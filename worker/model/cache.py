"""The predictors of a process: loaded on demand, within a memory budget; the least recently used are dropped first."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from headrace.errors import ModelError, ModelNotFound, StoreUnavailable
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.observability.logs import PRIVATE
from worker.model.allow_list import AllowList
from worker.model.load_journal import LoadJournal
from worker.model.loader import is_time_limit, name_of
from worker.model.predictor import Predictor

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
"""Seconds for which a version that could not be loaded is refused without another try."""

RETRY_FACTOR = 10
"""Pause until the next try, at least, in units of the time that a load took before it failed."""

STORE_RETRY_SECONDS = 1.0
"""Seconds until the next try if the model store did not answer, which is likely to pass."""

TIME_LIMIT_RETRY_SECONDS = 120.0
"""Seconds until the next try if the time limit of a batch ended the load, so that most of them go to other versions."""

REFUSALS_MAX = 100
"""Refusals that are remembered."""

REASON_MAX_CHARACTERS = 1000
"""Characters of the reason of a refusal that are remembered."""

Key = tuple[str, str]
"""Name and version of a model."""

LoadObserver = Callable[[Manifest | None, float | None], None]
"""A function that is called after each load.

Its arguments are the manifest, None if the store does not have the version, and the seconds that the load took, None if
the version was refused.
"""


@dataclass
class _Resident:
    predictor: Predictor
    used_at: float


@dataclass(frozen=True)
class _Refusal:
    reason: str
    until: float


class PredictorCache:
    """Predictors by name and version. Any thread may use it, but the process must not fork while another thread does.

    Looking up a loaded version never waits for a load. One load runs at a time, so that the memory peaks of two loads
    do not add up.
    """

    def __init__(
        self,
        store: ModelStore,
        budget_bytes: int,
        pinned: frozenset[str] = frozenset(),
        allow_list: AllowList | None = None,
        clock: Callable[[], float] = time.monotonic,
        load_seconds: float | None = None,
    ) -> None:
        """Create an empty cache.

        Args:
            store: The model store from which versions are loaded.
            budget_bytes: The bound of the sum of `Predictor.size_bytes`, and of what one artifact unpacks to.
            pinned: The names of the only models that may be loaded; empty if any may.
            allow_list: The modules, types and signers that are trusted.
            clock: Seconds of a clock that never goes back.
            load_seconds: The most seconds that a load may take from the copy of the artifact to the last sample; a
                longer one ends the process. None for no limit.
        """
        self._store = store
        self._budget_bytes = budget_bytes
        self._pinned = pinned
        self._allow_list = allow_list or AllowList()
        self._clock = clock
        self._residents: OrderedDict[Key, _Resident] = OrderedDict()
        """Predictors in memory, the least recently used first."""
        self._refusals: dict[Key, _Refusal] = {}
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()
        self._journal = LoadJournal(load_seconds)
        self._load_seconds = load_seconds
        self.on_load: LoadObserver = lambda _manifest, _seconds: None

    def get(self, name: str, version: str) -> Predictor:
        """Return the predictor of a version; load it if it is not in memory.

        Raises:
            ModelError: if this process does not serve the model, can't load it, or could not load it a moment ago.
        """
        key = (name, version)
        found = self._lookup(key)
        if found is not None:
            return found
        with self._load_lock:
            # Another thread may have loaded it while this one waited.
            found = self._lookup(key)
            return found if found is not None else self._load(key)

    def follow(self, name: str, version: str) -> None:
        """Load a version that no caller waits for, unless another process is the first to load it just now.

        Raises:
            ModelError: as `get` does.
        """
        with self._journal.first(name, version) as may_load:
            if may_load:
                self.get(name, version)

    def load_of(self, pid: int) -> str | None:
        """Return the name and version that a process of this worker was loading when it died; None without one."""
        return self._journal.load_of(pid)

    def drop(self, name: str, version: str) -> None:
        """Drop a version and its refusal; batches that run with the predictor keep it until they are done."""
        with self._lock:
            self._residents.pop((name, version), None)
            self._refusals.pop((name, version), None)
        self._journal.forget(name, version)

    def stop(self) -> None:
        """Note that this process stops: a load that it does not finish says nothing of the version."""
        self._journal.end_own()

    def loaded(self) -> list[Predictor]:
        """Return all predictors in memory, the least recently used first."""
        with self._lock:
            return [resident.predictor for resident in self._residents.values()]

    def refused(self) -> dict[Key, str]:
        """Return the versions whose last load failed, with the reason; a load that succeeds or `drop` removes one."""
        with self._lock:
            return {key: refusal.reason for key, refusal in self._refusals.items()}

    def idle_seconds(self, name: str, version: str) -> float:
        """Return the seconds since a version was last used; infinity if it is not in memory."""
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
        manifest, label = None, f"{key[0]} {key[1]}"
        began_at, started = self._clock(), time.perf_counter()
        try:
            manifest = self._store.manifest(*key)
            if manifest.version != key[1]:
                raise ModelNotFound(f"{key[1]!r} is an alias of {key[0]!r}, not a version")
            self._check_fits(manifest.artifact.size_bytes, label)
            # Of a process that ends during a load, no other line names the version. A refused version is tried again
            # every few seconds, without a line.
            if self._load_seconds is not None and key not in self.refused():
                logger.info("loading %s %s, for at most %g s", *key, self._load_seconds)
            # Room is made before the artifact is read, so that old and new versions need not fit in at once. The size
            # of the artifact is about the memory that it will take.
            make_room = partial(self._make_room, label=label)
            predictor = Predictor.load(
                self._store, manifest, self._allow_list, self._budget_bytes, self._journal, make_room
            )
            self._make_room(predictor.size_bytes, label)
        except Exception as error:
            self._refuse_for(key, error, self._clock() - began_at)
            self.on_load(manifest, None)
            if isinstance(error, ModelError) or is_time_limit(error):
                raise
            # Anyone may have written the manifest, and only the code that uses a field finds some of its mistakes.
            raise ModelError(_unforeseen(label, error)) from error
        seconds = time.perf_counter() - started
        with self._lock:
            self._residents[key] = _Resident(predictor, self._clock())
            self._refusals.pop(key, None)
        # The text alone: a log handler that keeps the record must not keep the estimator.
        logger.info("loaded %s in %.2f s (about %.1f MB)", str(predictor), seconds, predictor.size_bytes / 1e6)
        self.on_load(manifest, seconds)
        return predictor

    def _check_fits(self, size_bytes: int, label: str) -> None:
        if size_bytes > self._budget_bytes:
            raise ModelError(
                f"{label}: takes about {size_bytes / 1e6:.1f} MB, more than WORKER_MEMORY_BUDGET_BYTES "
                f"({self._budget_bytes / 1e6:.1f} MB)"
            )

    def _make_room(self, size_bytes: int, label: str) -> None:
        """Drop predictors until this many bytes fit below the budget; `label` names the new version in the error."""
        self._check_fits(size_bytes, label)
        with self._lock:
            while sum(each.predictor.size_bytes for each in self._residents.values()) + size_bytes > self._budget_bytes:
                _, resident = self._residents.popitem(last=False)
                logger.info("dropped %s to make room", str(resident.predictor))

    def _refuse_for(self, key: Key, error: Exception, took_seconds: float) -> None:
        """Refuse a version of which a load failed after so many seconds."""
        label = f"{key[0]} {key[1]}"
        seconds = max(RETRY_SECONDS, RETRY_FACTOR * took_seconds)
        if is_time_limit(error):
            self._refuse(key, f"{label}: the time limit of a batch ended its load", TIME_LIMIT_RETRY_SECONDS)
        elif isinstance(error, ModelError):
            self._refuse(key, str(error), STORE_RETRY_SECONDS if isinstance(error, StoreUnavailable) else seconds)
        else:
            self._refuse(key, _unforeseen(label, error), seconds, error)

    def _refuse(self, key: Key, reason: str, seconds: float, error: Exception | None = None) -> None:
        """Refuse a version for so many seconds, after an error of which the log shows where it was raised."""
        # Parts of it may come from the artifact, and heartbeats carry it: no surrogates, and not too much of it.
        reason = reason.encode(errors="backslashreplace").decode()[:REASON_MAX_CHARACTERS]
        with self._lock:
            previous = self._refusals.pop(key, None)
            self._refusals[key] = _Refusal(reason, self._clock() + seconds)
            if len(self._refusals) > REFUSALS_MAX:
                del self._refusals[next(iter(self._refusals))]
        # The load is tried again every few seconds: the same reason is logged once.
        if previous is None or previous.reason != reason:
            logger.error("refused %s %s: %s", *key, reason, exc_info=error, extra=PRIVATE)


def _unforeseen(label: str, error: Exception) -> str:
    # Without its message, which may hold values of a row.
    return f"{label}: {name_of(error)} while it was loaded"
