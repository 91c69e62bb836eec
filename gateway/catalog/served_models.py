"""The versions that are in the gateway's memory, and the bound of that memory."""

from collections.abc import Callable, Collection

from gateway.catalog.served_model import ServedModel
from gateway.errors import QueueFull

KEEP_SECONDS = 60.0
"""Time that a version which no alias means stays in memory after its last request."""

BYTES_MAX = 400_000_000
"""Memory of all versions in bytes: twice that of one with 10,000 numbers, so that its alias can move to another."""

RETRY_SECONDS = 10.0
"""Time after which a caller whose version has no room may try again."""

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
