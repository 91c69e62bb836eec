"""Counters of the bins into which the training data of a version divide a feature or an output."""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge

from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Reference

BINS_MAX = 21
"""Bins of a feature or an output that are counted."""


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


def make_bins(
    reference: Reference, counter: Counter, gauge: Gauge, labels: tuple[str, ...], nullable: bool
) -> NumberBins | NamedBins:
    """Make the counters of the bins of a reference, and set the gauges of its ratios.

    Args:
        reference: The bins, and the share of the training rows in each.
        counter: The family of the counters.
        gauge: The family of the gauges.
        labels: The labels of a series. The name of the bin is appended to the last of them.
        nullable: True if values may be missing.
    """
    ratios = _bounded_ratios(reference, nullable)
    series = {name: (*labels[:-1], labels[-1] + name) for name in ratios}
    for name, ratio in ratios.items():
        gauge.labels(*series[name]).set(ratio)
    counters = {name: counter.labels(*series[name]) for name in ratios}
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
