"""The versions that are in the gateway's memory, the bound of that memory, and the versions that can't be in it."""

import logging
import time
from collections.abc import Callable, Collection

from gateway.catalog.served_model import ServedModel
from gateway.errors import ModelUnavailable, QueueFull
from headrace.errors import ModelError, StoreUnavailable
from shared.observability.log_limit import LogLimit

logger = logging.getLogger(__name__)

KEEP_SECONDS = 60.0
"""Time that a version which no alias means stays in memory after its last request."""

BYTES_MAX = 400_000_000
"""Memory of all versions in bytes: twice that of one with 10,000 numbers, so that its alias can move to another."""

RETRY_SECONDS = 10.0
"""Time after which a caller whose version has no room may try again."""

REFUSED_SECONDS = 5.0
"""Time for which a version that can't be served is not read again, and may have been signed or repaired."""

REFUSED_MAX = 1_000
"""Versions that are known to be refused; beyond it the first are forgotten."""

LINES_PER_SECOND = 10
"""Log lines about versions that can't be read, which callers may ask for again and again."""

Key = tuple[str, str]
"""Name and version of a model."""


class ServedModels(dict[Key, ServedModel]):
    """Versions in memory, by name and version."""

    def add(self, served: ServedModel, kept: Callable[[], Collection[Key]]) -> None:
        """Add a version; if there is no room for it, drop the least recently used ones, but for those of `kept`.

        Raises:
            QueueFull: if these leave no room.
        """
        excess = sum(each.memory_bytes for each in self.values()) + served.memory_bytes - BYTES_MAX
        if excess > 0:
            stay = kept()
            unused = [key for key, each in self.items() if key not in stay and each.batcher.idle]
            for key in sorted(unused, key=lambda key: self[key].used_at):
                if excess > 0:
                    excess -= self.pop(key).memory_bytes
        if excess > 0:
            raise QueueFull("the versions in use leave no memory for this one", RETRY_SECONDS)
        self[served.manifest.name, served.manifest.version] = served

    def holds(self, name: str) -> bool:
        """Tell whether any version of a model is in memory."""
        return any(model == name for model, _ in self)

    def forget_unused(self, kept: Collection[Key], now: float) -> None:
        """Drop the versions for which no caller has asked lately, but for those of `kept`."""
        for key, served in list(self.items()):
            if key not in kept and served.batcher.idle and now - served.used_at > KEEP_SECONDS:
                del self[key]


class RefusedVersions:
    """Versions that could not be served a moment ago: reading a wide manifest to refuse it takes as long as any."""

    def __init__(self) -> None:
        self._until: dict[Key, float] = {}
        """Time of the monotonic clock at which each may be read again."""
        self._lines = LogLimit(LINES_PER_SECOND, 1.0)

    def check(self, key: Key) -> None:
        """Check that a version, or an alias, was not refused a moment ago.

        Raises:
            ModelUnavailable: if it was.
        """
        if time.monotonic() < self._until.get(key, 0.0):
            raise ModelUnavailable()

    def add(self, key: Key, error: ModelError) -> None:
        """Log why a version can't be served, and remember it unless the store did not answer."""
        before = self._lines.admit()
        if before is not None:
            logger.error("%s %s can't be served: %s%s", *key, error, before)
        if isinstance(error, StoreUnavailable):
            return
        self._until.pop(key, None)
        self._until[key] = time.monotonic() + REFUSED_SECONDS
        if len(self._until) > REFUSED_MAX:
            del self._until[next(iter(self._until))]
