"""Weights of rows: what a row is expected to cost, in rows without long texts."""

from collections.abc import Sequence
from itertools import accumulate

from headrace.models.manifest import Feature
from shared.queue.contract import Row

CHARACTERS = 1_000
"""Characters of texts for which a row weighs one more: callers choose the length of their texts, and so the work."""


class RowWeights:
    """The weights of the rows of one model."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._texts = [at for at, feature in enumerate(features) if feature.type == "string"]

    def sums(self, rows: Sequence[Row]) -> list[int] | None:
        """Return the weight of the first row, of the first two, and so on; None if each row weighs 1."""
        if not self._texts:
            return None
        weights = [1 + sum(len(row[at] or "") for at in self._texts) // CHARACTERS for row in rows]
        return [*accumulate(weights)] if max(weights) > 1 else None
