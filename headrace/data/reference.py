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

    Edges are observed values, so that interpolation never splits a tie. A constant gets a bin of its own between two
    empty ones, so that drift to either side shows.
    """
    top = values.max()
    below_top = values[values < top]
    if below_top.size == 0:
        return [float(np.nextafter(top, -np.inf)), float(top)]
    quantiles = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    # An edge at the maximum would leave the last bin empty; where most values are the maximum (a flag that is nearly
    # always 1) it would be the only edge, and no drift inside the range would show.
    edges: list[float] = np.unique(np.minimum(quantiles, below_top.max())).tolist()
    return edges


def smoothed_ratios(counts: Sequence[int]) -> list[float]:
    """Share of each bin, never 0: q_b = (n_b + 0.5) / (M + 0.5 K) for M values in K bins.

    It is the posterior mean under the Jeffreys prior of a multinomial, Dirichlet(1/2, …, 1/2) (Jeffreys 1946, An
    invariant form for the prior probability in estimation problems). The recording rules smooth live counts alike.
    """
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


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
