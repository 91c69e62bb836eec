"""The size of an outcome, estimated before a job is accepted: its memory is reserved until the job ends."""

from headrace.models.manifest import Manifest

NUMBER_BYTES = 22
"""JSON of a number in float64 at most, without its sign, and the comma behind it. Class names count as much."""

SMALL_BYTES = 1024
"""Size from which an outcome counts as a kept result; a smaller one is part of the record (`results.lua`)."""


def outcome_bytes(manifest: Manifest, n_rows: int) -> int:
    """Return the bytes of JSON of the outcome of a job with n rows, 0 for a small one.

    A row has a prediction per output and, if the model has probabilities, one per class. The classes are named once.
    """
    n_outputs = len(manifest.outputs)
    n_classes = sum(len(output.classes or ()) for output in manifest.outputs)
    n_values = n_rows * (n_outputs + manifest.probabilities * n_classes) + n_classes
    return NUMBER_BYTES * n_values if NUMBER_BYTES * n_values >= SMALL_BYTES else 0
