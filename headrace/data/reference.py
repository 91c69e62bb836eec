"""Reference distributions: the shares of the training rows in the bins that a worker counts live rows into."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.models.manifest import MISSING_BIN, Reference

SMALL_TRAINING_SET_ROWS = 1_000
"""Number of rows below which there are five bins instead of ten: the ratios of finer bins would be mostly noise."""

HISTOGRAM_EDGES_MAX = 12


def bin_positions(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.intp]:
    """Return the bin of each value, from 0: bin k holds `edges[k-1] < value <= edges[k]`. Workers call the same."""
    return np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="left")


def numeric_reference(values: NDArray[np.float64], missing: int = 0) -> Reference:
    """Return the reference of a number: quantile bins labelled "00", "01", … with their smoothed ratios.

    `values` has shape (n,), all finite. If `missing`, the number of missing values, is above 0, they get a last bin.
    """
    edges = quantile_edges(values, 5 if len(values) < SMALL_TRAINING_SET_ROWS else 10)
    counts = np.bincount(bin_positions(values, edges), minlength=len(edges) + 1).tolist()
    bins = [f"{position:02d}" for position in range(len(counts))]
    if missing:
        bins, counts = [*bins, MISSING_BIN], [*counts, missing]
    return Reference(bins=bins, ratios=smoothed_ratios(counts), edges=edges)


def class_reference(outputs: NDArray[Any], classes: Sequence[str | int | bool]) -> Reference:
    """Return the reference of a class: one bin per class, with its name. `outputs` has shape (n,)."""
    counts = [int(np.count_nonzero(outputs == each)) for each in classes]
    return Reference(bins=[str(each) for each in classes], ratios=smoothed_ratios(counts))


def quantile_edges(values: NDArray[np.float64], bins: int) -> list[float]:
    """Inner edges of at most `bins` bins with about equal counts; fewer bins where values are tied.

    An edge lies from an observed value up to the next one, so that it never splits a tie. It is the number of fewest
    digits there: edges are public, and a value with many digits may belong to one row. A constant gets a bin of its own
    between two empty ones, so that drift to either side shows.
    """
    top = values.max()
    below_top = values[values < top]
    if below_top.size == 0:
        return [float(np.nextafter(top, -np.inf)), float(top)]
    quantiles = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    # An edge at the maximum would leave the last bin empty; where most values are the maximum (a flag that is nearly
    # always 1) it would be the only edge, and no drift inside the range would show.
    edges: list[float] = np.unique(np.minimum(quantiles, below_top.max())).tolist()
    return [shortest(edge, float(values[values > edge].min())) for edge in edges]


def shortest(low: float, high: float) -> float:
    """Return the number of fewest digits that is at least `low` and below `high`."""
    largest, width = max(abs(low), abs(high)), high - low
    if not 1e-290 < width <= largest * 2 < 1e290:
        return low
    for power in range(math.floor(math.log10(largest)) + 1, math.floor(math.log10(width)) - 1, -1):
        rounded = rounded_up(low, power)
        if low <= rounded < high:
            return rounded
    return low


def rounded_up(value: float, power: int) -> float:
    """Return the least multiple of the power of ten that is not below `value`, but for the rounding of floats."""
    # Multiplying or dividing by a whole number gives the float that is nearest to the decimal.
    if power >= 0:
        return float(math.ceil(value / 10**power) * 10**power)
    return float(math.ceil(value * 10**-power) / 10**-power)


def rounded_range(low: float, high: float) -> tuple[float, float]:
    """Widen a range to numbers of two digits, or of two digits of its width.

    The ranges of features are public, and an extreme may belong to one row.
    """
    width = high - low
    if not 1e-290 < width < 1e290:
        return low, high
    return -_rounded_away(-low, width), _rounded_away(high, width)


def _rounded_away(value: float, width: float) -> float:
    if abs(value) < 1e-290:
        return value
    power = math.floor(math.log10(min(width, abs(value)))) - 1
    # Digits that only the binary fraction has are no digits of a value.
    return max(value, rounded_up(value - 1e-12 * abs(value), power))


def smoothed_ratios(counts: Sequence[int]) -> list[float]:
    """Share of each bin, never 0: q_b = (n_b + 0.5) / (M + 0.5 K) for M values in K bins.

    It is the posterior mean under the Jeffreys prior of a multinomial, Dirichlet(1/2, …, 1/2) (Jeffreys 1946, An
    invariant form for the prior probability in estimation problems). The recording rules smooth live counts alike.
    """
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


def observed_ratios(ratios: Sequence[float], rows: int) -> list[float]:
    """Return the shares of the counts that `smoothed_ratios` got for this number of rows."""
    total = rows + 0.5 * len(ratios)
    return [max(0, round(ratio * total - 0.5)) / rows for ratio in ratios]


def histogram_edges(values: NDArray[np.float64]) -> list[float]:
    """Rising bucket bounds for a dashboard: at most 12 multiples of 1, 2, 2.5 or 5 times a power of ten.

    They cover the range of `values`, shape (n,), with a twentieth of it on either side (after Heckbert 1990, Nice
    Numbers for Graph Labels).
    """
    low, high = _padded_range(float(values.min()), float(values.max()))
    unit = 10.0 ** math.floor(math.log10((high - low) / HISTOGRAM_EDGES_MAX))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0):
        step = factor * unit
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first < HISTOGRAM_EDGES_MAX:
            break
    # Twelve digits drop the residue of binary fractions (0.30000000000000004) and still tell the bounds apart.
    return [float(f"{position * step:.12g}") for position in range(first, last + 1)]


def _padded_range(low: float, high: float) -> tuple[float, float]:
    if low == high:
        padding = abs(low) / 2 or 0.5
        return low - padding, high + padding
    # At least a billionth of the magnitude, or the bounds would be equal in twelve digits.
    padding = max((high - low) / 20, 1e-9 * max(abs(low), abs(high)))
    # A value that is always positive, such as a length or a price, needs no bound below 0.
    return (max(low - padding, 0.0) if low > 0 else low - padding), high + padding
