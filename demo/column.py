"""Values of one feature: as in training, and drifted."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, sqrt
from random import Random

from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Feature, Scalar

RAREST_CHANCE = 0.5
"""How often a drifted text or boolean is the value that was rarest in training."""

UNKNOWN_TEXT = "none of the known"


@dataclass(frozen=True)
class _Interval:
    """Numbers above `low` up to `high`, as bins are cut, each as likely as the others."""

    low: float
    high: float
    whole: bool

    def draw(self, random: Random) -> float:
        value = self.high - (self.high - self.low) * random.random()
        if self.whole:
            return float(ceil(value))
        # Between neighbouring numbers, rounding may give the lower one.
        return value if value > self.low else self.high


@dataclass(frozen=True)
class _Values:
    """Values that share a bin."""

    values: Sequence[Scalar | None]

    def draw(self, random: Random) -> Scalar | None:
        return random.choice(self.values)


class Column:
    """Draws values of a feature by the shares of its reference bins.

    `sampled` are values that the manifest shows: of prose, which has no categories, they are all that is known.
    """

    def __init__(self, feature: Feature, sampled: Sequence[Scalar | None]) -> None:
        self.name = feature.name
        self._feature = feature
        self._bins = _numbers(feature) if feature.type == "number" else _named(feature, sampled)
        self._weights = list(accumulate(feature.reference.ratios))
        self._deviation = _deviation(self._bins, feature.reference.ratios)
        self._rarest = _rarest(self._bins, feature.reference.ratios)

    @property
    def can_drift(self) -> bool:
        """Whether it could hold something else than it does."""
        return self._feature.minimum != self._feature.maximum or self._rarest is not None

    def draw(self, random: Random) -> Scalar | None:
        """A value as in training."""
        [chosen] = random.choices(self._bins, cum_weights=self._weights)
        return chosen.draw(random)

    def draw_drifted(self, random: Random, deviations: float, strength: float) -> Scalar | None:
        """A value of other times. Missing ones stay as frequent as they were.

        A number is moved by so many standard deviations of the training rows, times `strength` (0 to 1); a text or a
        boolean is more often what was rarest.
        """
        value = self.draw(random)
        if isinstance(value, float):
            moved = value + deviations * strength * self._deviation
            return float(round(moved)) if _is_whole(self._feature) else moved
        if value is not None and self._rarest is not None and random.random() < RAREST_CHANCE * strength:
            return self._rarest
        return value


def _numbers(feature: Feature) -> list[_Interval | _Values]:
    """The bins of a number; the outer ones end with the training range, so that nothing drawn is out of range."""
    assert feature.minimum is not None and feature.maximum is not None and feature.reference.edges is not None
    edges, whole = feature.reference.edges, _is_whole(feature)
    # An interval does not hold its lower bound, and the least whole number is one of its values.
    lows = [min(feature.minimum - whole, edges[0]) if edges else feature.minimum - whole, *edges]
    highs = [*edges, max(feature.maximum, edges[-1]) if edges else feature.maximum]
    bins: list[_Interval | _Values] = [_Interval(low, high, whole) for low, high in zip(lows, highs, strict=True)]
    return [*bins, _Values([None])] if feature.nullable else bins


def _is_whole(feature: Feature) -> bool:
    """Whether it counts something: edges are observed values, and all of them are whole."""
    seen = [feature.minimum, feature.maximum, *(feature.reference.edges or ())]
    return all(value is not None and value.is_integer() for value in seen)


def _named(feature: Feature, sampled: Sequence[Scalar | None]) -> list[_Interval | _Values]:
    """The bins of a text or a boolean."""
    bins: list[_Interval | _Values] = []
    for name in feature.reference.bins:
        if feature.type == "boolean" and name != MISSING_BIN:
            bins.append(_Values([name == "True"]))
        elif name == MISSING_BIN and feature.nullable:
            bins.append(_Values([None]))
        elif name == OTHER_BIN:
            known = [*(feature.categories or ()), *(value for value in sampled if isinstance(value, str))]
            others = [text for text in dict.fromkeys(known) if text not in feature.reference.bins]
            bins.append(_Values(others or [UNKNOWN_TEXT]))
        else:
            bins.append(_Values([name]))
    return bins


def _deviation(bins: Sequence[_Interval | _Values], ratios: Sequence[float]) -> float:
    """Standard deviation of the numbers in the bins."""
    intervals = [(bin_, ratio) for bin_, ratio in zip(bins, ratios, strict=True) if isinstance(bin_, _Interval)]
    total = sum(ratio for _, ratio in intervals)
    if not total:
        return 0.0
    mean = sum(ratio * (bin_.low + bin_.high) / 2 for bin_, ratio in intervals) / total
    squares = sum(
        ratio * (((bin_.low + bin_.high) / 2 - mean) ** 2 + (bin_.high - bin_.low) ** 2 / 12)
        for bin_, ratio in intervals
    )
    return sqrt(squares / total)


def _rarest(bins: Sequence[_Interval | _Values], ratios: Sequence[float]) -> Scalar | None:
    """The one text or boolean with the least share; None if there are not two to choose from."""
    known = [
        (ratio, bin_.values[0])
        for bin_, ratio in zip(bins, ratios, strict=True)
        if isinstance(bin_, _Values) and len(bin_.values) == 1 and bin_.values[0] not in (None, UNKNOWN_TEXT)
    ]
    return min(known, key=lambda each: each[0])[1] if len(known) > 1 else None
