"""Counters of the bins into which the training data of a version divide a feature or an output."""

import hashlib
import math
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge

from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Reference

BINS_MAX = 21
"""Bins of a feature or an output that are counted."""

LABEL_MAX_CHARACTERS, DIGEST_CHARACTERS = 128, 8
"""Characters of a text of a manifest in a label, and of the digest at the end of one that was cut."""

DIGITS_MAX = 12
"""Digits of a number in the range of a bin."""

PLAIN_BELOW = 1e9
"""Magnitude from which numbers are written with a power of ten."""


def label_of(text: str) -> str:
    """Return a text as the value of a label: a long one is cut, and ends in its digest, so that it stays apart."""
    if len(text) <= LABEL_MAX_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:DIGEST_CHARACTERS]
    return f"{text[: LABEL_MAX_CHARACTERS - DIGEST_CHARACTERS - 1]}…{digest}"


class NumberBins:
    """Counters of numbers between cut points, NaN as missing."""

    def __init__(self, edges: list[float], counters: list[Any], missing: Any) -> None:
        self._edges = np.asarray(edges, dtype=np.float64)
        self._counters = counters
        self._missing = missing

    def count(self, values: Sequence[float] | NDArray[np.float64]) -> None:
        """Count n values, shape (n,)."""
        numbers = np.asarray(values, dtype=np.float64)
        gaps = np.isnan(numbers)
        n_missing = int(np.count_nonzero(gaps))
        if n_missing:
            numbers = numbers[~gaps]
            if self._missing is not None:
                self._missing.inc(n_missing)
        # The export cuts the training data in the same way: bin k holds edges[k-1] < value <= edges[k].
        counts = np.bincount(np.searchsorted(self._edges, numbers, side="left"))
        for counter, count in zip(self._counters, counts.tolist(), strict=False):
            if count:
                counter.inc(count)


class NamedBins:
    """Counters of texts, booleans or classes by name, None as missing, names that have no bin as other."""

    def __init__(self, counters: dict[str, Any], missing: Any, other: Any) -> None:
        self._counters = counters
        self._missing = missing
        self._other = other

    def count(self, values: Iterable[Any]) -> None:
        """Count values."""
        for value, count in Tally(values).items():
            counter = self._missing if value is None else self._counters.get(str(value), self._other)
            if counter is not None:
                counter.inc(count)


class BinFamilies(NamedTuple):
    """The families of a distribution: counts by bin, shares of the training rows, and ranges of the bins."""

    counts: Counter
    ratios: Gauge
    infos: Gauge


def make_bins(
    reference: Reference, families: BinFamilies, labels: tuple[str, ...], nullable: bool
) -> NumberBins | NamedBins:
    """Make the counters of the bins of a reference, and set the gauges of its ratios and ranges.

    Args:
        reference: The bins, and the share of the training rows in each.
        families: The families of the series.
        labels: The labels of a series. The name of the bin is appended to the last of them.
        nullable: True if values may be missing.
    """
    ratios = _bounded_ratios(reference, nullable)
    series = {name: (*labels[:-1], labels[-1] + label_of(name)) for name in ratios}
    # The bin of missing values, the last one, has no range.
    ranges = dict(zip(ratios, ranges_between(reference.edges or () if ratios else ()), strict=False))
    for name, ratio in ratios.items():
        families.ratios.labels(*series[name]).set(ratio)
        families.infos.labels(*series[name], labels[-1] + label_of(ranges.get(name, name))).set(1)
    counters = {name: families.counts.labels(*series[name]) for name in ratios}
    missing = counters.pop(MISSING_BIN, None) if nullable else None
    if reference.edges is not None:
        return NumberBins(reference.edges, list(counters.values()), missing)
    return NamedBins(counters, missing, counters.pop(OTHER_BIN, None))


def _bounded_ratios(reference: Reference, nullable: bool) -> dict[str, float]:
    """Return bin -> ratio of at most BINS_MAX bins.

    The last of too many named bins become part of the bin of others. Of too many bins between cut points none is left.
    """
    ratios: dict[str, float] = dict(zip(reference.bins, reference.ratios, strict=True))
    if len(ratios) <= BINS_MAX:
        return ratios
    if reference.edges is not None:
        return {}
    missing = {MISSING_BIN: ratios.pop(MISSING_BIN)} if nullable else {}
    other = ratios.pop(OTHER_BIN, 0.0)
    n_kept = BINS_MAX - 1 - len(missing)
    kept = dict(list(ratios.items())[:n_kept])
    return {**kept, OTHER_BIN: other + sum(list(ratios.values())[n_kept:]), **missing}


def ranges_between(edges: Sequence[float]) -> list[str]:
    """Return the ranges of numbers between rising cut points as people write them: `≤ 4.3`, `4.3–5.1`, `> 5.1`.

    No edges make no range. Edges are rounded where that changes little: by at most a twentieth of the distance to the
    next edge, and half a percent. Two edges that look equal hold one value.
    """
    if not edges:
        return []
    gaps = [math.inf, *(high - low for low, high in pairwise(edges)), math.inf]
    texts = [_rounded(edge, min(around)) for edge, around in zip(edges, pairwise(gaps), strict=True)]
    between = [low if low == high else f"{low}–{high}" for low, high in pairwise(texts)]
    first = "<" if texts[0] in between else "≤"
    return [f"{first} {texts[0]}", *between, f"> {texts[-1]}"]


def _rounded(edge: float, gap: float) -> str:
    """Return an edge in as few digits as tell it apart from others at a distance of `gap`; a whole number in all."""
    if edge.is_integer() and abs(edge) < PLAIN_BELOW:
        return f"{edge:.0f}"
    error_max = min(abs(edge) / 200, gap / 20)
    digits = next((n for n in range(1, DIGITS_MAX) if abs(float(f"{edge:.{n}g}") - edge) <= error_max), DIGITS_MAX)
    text = f"{edge:.{digits}g}"
    return f"{float(text):.{DIGITS_MAX}g}" if abs(edge) < PLAIN_BELOW else text
