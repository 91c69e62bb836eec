"""A version of a model that is in the gateway's memory."""

import time
from dataclasses import dataclass, field

from gateway.batching.batcher import Batcher
from gateway.catalog.row_parser import RowParser
from headrace.models.manifest import Manifest


@dataclass(eq=False)
class ServedModel:
    """A version to which rows can be sent."""

    manifest: Manifest
    parser: RowParser
    batcher: Batcher
    used_at: float = field(default_factory=time.monotonic)
    """Time of the last request for it, in seconds of the monotonic clock."""

    @property
    def label(self) -> str:
        """`<name> <version>`, as workers report it in their heartbeats."""
        return f"{self.manifest.name} {self.manifest.version}"
