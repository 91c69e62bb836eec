"""Size of the answer to a row, known from the manifest before the row is predicted."""

import orjson

from headrace.models.fields import class_key
from headrace.models.manifest import Manifest

NUMBER_BYTES = 24
"""Bytes of the longest float64 in JSON, such as -2.2250738585072014e-308."""

PUNCTUATION_BYTES = 4
"""Bytes of the two brackets around the values of an output, and of a colon and a comma beside them."""


def answer_row_bytes(manifest: Manifest) -> int:
    """Return the bytes of JSON that the answer to one row takes at most: its predictions and probabilities."""
    size = 2 * PUNCTUATION_BYTES
    for output in manifest.outputs:
        # Only of several outputs the values have the names of their outputs before them.
        name = _text_bytes(output.name) if len(manifest.outputs) > 1 else 0
        labels = [_text_bytes(class_key(label)) for label in output.classes or ()]
        size += name + PUNCTUATION_BYTES + max(labels, default=NUMBER_BYTES)
        if manifest.probabilities:
            size += name + PUNCTUATION_BYTES + sum(label + NUMBER_BYTES + 2 for label in labels)
    return size


def _text_bytes(text: str) -> int:
    return len(orjson.dumps(text))
