"""A version of a model that is in the gateway's memory."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from gateway.batching.batcher import Batcher
from gateway.catalog.answer_size import answer_row_bytes
from gateway.catalog.row_examiner import INSTANCES
from gateway.catalog.row_parser import RowParser
from headrace.models.fields import class_key
from headrace.models.made_up import example_row, flat_row
from headrace.models.manifest import Manifest

FIXED_BYTES = 50_000
"""Bytes of memory that a version takes however small its manifest is."""

EXAMPLE_FEATURES_MAX, EXAMPLE_BYTES_MAX = 100, 10_000
"""Features of a model, and bytes of its example, beyond which errors show none: a few bytes may ask for it."""

Outputs = Sequence[tuple[str, Sequence[str] | None]]
"""Name of each output of a model, and the keys of its classes in an object of probabilities."""


def keyed(outputs: Iterable[tuple[str, Sequence[Any] | None]]) -> Outputs:
    """Return outputs with the keys of their classes in the place of the classes."""
    return [(name, None if classes is None else [*map(class_key, classes)]) for name, classes in outputs]


def outputs_of(manifest: Manifest) -> Outputs:
    """Return the outputs that a manifest describes."""
    return keyed((output.name, output.classes) for output in manifest.outputs)


@dataclass(eq=False)
class ServedModel:
    """A version to which rows can be sent."""

    manifest: Manifest
    parser: RowParser
    batcher: Batcher
    used_at: float = field(default_factory=time.monotonic)
    """Time of the last request for it, in seconds of the monotonic clock."""
    outputs: Outputs = field(init=False)
    answer_row_bytes: int = field(init=False)
    """Bytes of the longest answer to a row."""
    memory_bytes: int = field(init=False)
    """Bytes of memory at most."""

    def __post_init__(self) -> None:
        self.outputs = outputs_of(self.manifest)
        self.answer_row_bytes = answer_row_bytes(self.manifest)
        self.memory_bytes = FIXED_BYTES + self.manifest.memory_bytes

    @cached_property
    def manifest_json(self) -> bytes:
        """The manifest as callers see it, in JSON; one of many megabytes takes 0.1 s to write."""
        return orjson.dumps(self.manifest.model_dump(mode="json", exclude={"format_version", "golden"}))

    @cached_property
    def example(self) -> dict[str, Any] | None:
        """A body that shows callers the form, in an error; None if it would be long."""
        manifest = self.manifest
        if len(manifest.features) > EXAMPLE_FEATURES_MAX:
            return None
        example = {INSTANCES: [flat_row(manifest, example_row(manifest))]}
        return example if len(orjson.dumps(example)) <= EXAMPLE_BYTES_MAX else None

    @property
    def label(self) -> str:
        """`<name> <version>`, as workers report it in their heartbeats."""
        return f"{self.manifest.name} {self.manifest.version}"
