"""Made-up values and rows: drawn from the reference distributions of a manifest, or one plain row of its types."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil
from random import Random
from typing import Any

from headrace.models.fields import Scalar
from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Feature, Manifest

Values = Sequence[Scalar | None]

PLAIN_TEXT = "text"
"""Text that stands for any text of a feature without categories."""


@dataclass(frozen=True)
class Interval:
    """Numbers above `low` up to `high`, each as likely as the others."""

    low: float
    high: float


class Distribution:
    """Values of one feature, drawn by the shares of its reference bins.

    Args:
        feature: The feature as the manifest describes it.
        others: Texts for the bin `other`; by default the categories without a bin, or else all categories.
    """

    def __init__(self, feature: Feature, others: Values = ()) -> None:
        bounds = [feature.minimum, feature.maximum, *(feature.reference.edges or ())]
        guess = all(each is not None and each.is_integer() for each in bounds)
        self.whole = guess if feature.whole is None else feature.whole
        self.bins = _numbers(feature, self.whole) if feature.type == "number" else _named(feature, others)
        self._weights = list(accumulate(feature.reference.ratios))

    def draw(self, random: Random) -> Scalar | None:
        """Draw a value as in training."""
        [chosen] = random.choices(self.bins, cum_weights=self._weights)
        if not isinstance(chosen, Interval):
            return random.choice(chosen)
        value = chosen.high - (chosen.high - chosen.low) * random.random()
        if self.whole:
            return float(ceil(value))
        # Between neighbouring numbers, rounding may give the lower bound, which is not in the bin.
        return value if value > chosen.low else chosen.high


def flat_row(manifest: Manifest, row: Sequence[Any]) -> dict[str, Any]:
    """Return a row as the flat object that a caller would send."""
    return dict(zip((feature.name for feature in manifest.features), row, strict=True))


def example_row(manifest: Manifest) -> list[Scalar | None]:
    """Return a row that shows callers the form: the first sample, or values by type where the version has no samples.

    The values by type are the middle of a number's histogram, the most frequent category of a text, and true.
    """
    if manifest.samples:
        return list(manifest.samples[0].row)
    return [_placeholder(feature) for feature in manifest.features]


def _placeholder(feature: Feature) -> Scalar:
    if feature.type == "boolean":
        return True
    if feature.type == "string":
        return feature.categories[0] if feature.categories else PLAIN_TEXT
    edges = feature.histogram_edges or [0.0]
    middle = edges[len(edges) // 2]
    return float(round(middle)) if feature.whole else middle


def _numbers(feature: Feature, whole: bool) -> list[Interval | Values]:
    """Return the bins of a number; the outer ones end with the training range, so no drawn value is out of range."""
    assert feature.minimum is not None and feature.maximum is not None and feature.reference.edges is not None
    # An interval does not hold its lower bound, and the least whole number is one of its values.
    low, high, edges = feature.minimum - whole, feature.maximum, feature.reference.edges
    bounds = [min(low, edges[0]), *edges, max(high, edges[-1])] if edges else [low, high]
    bins: list[Interval | Values] = [Interval(low, high) for low, high in pairwise(bounds)]
    return [*bins, [None]] if feature.nullable else bins


def _named(feature: Feature, others: Values) -> list[Interval | Values]:
    """Return the bins of a text or a boolean."""
    known = feature.categories or ()
    others = others or [text for text in known if text not in feature.reference.bins] or known or [PLAIN_TEXT]
    bins: list[Interval | Values] = []
    for name in feature.reference.bins:
        if name == MISSING_BIN:
            bins.append([None])
        elif feature.type == "boolean":
            bins.append([name == "True"])
        else:
            bins.append(others if name == OTHER_BIN else [name])
    return bins
