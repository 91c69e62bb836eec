"""How far live data is from the training data: the formulas, in plain Python, and the limits that alerts have.

The recording rules of `monitoring.rules.drift` say the same in PromQL; tests hold the two together. All of it looks at
one column at a time and at bins of it: what changes only together with another column, or inside a bin, does not show.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

SMOOTHING = 0.5
"""What is added to the count of each bin, of the training rows too (`smoothed_ratios` of training)."""

NOISE_LEVEL = 0.99
"""Chance that the PSI of one unshifted feature stays below its noise floor. Models have many features."""

ROWS_MIN = 200
"""Rows that a window must hold, or nothing is said of it. docs/drift.md has the simulation behind it."""

PSI_MAX = 0.25
"""PSI above which a distribution has shifted: the rule of thumb of credit scoring, where PSI comes from (Siddiqi 2006,
Credit Risk Scorecards, chapter 9: below 0.1 no change, above 0.25 a shift)."""

MISSING_EXCESS_MAX = 0.1
"""Share of missing values above that of the training rows, chance left aside."""

OUT_OF_RANGE_EXCESS_MAX = 0.05
"""The same of numbers beyond the training range and of texts that training did not know."""

LOW_CONFIDENCE = 0.6
"""Confidence up to which an answer counts as unsure; a bucket bound of the histogram."""

CONFIDENCE_ABOVE_CHANCE_MIN = 0.2
"""How far the median confidence must lie on the way from chance (one over the number of classes) to certainty."""


def smoothed_shares(counts: Sequence[float]) -> list[float]:
    """Share of each of K bins, never 0: (n_b + 0.5) / (N + 0.5 K) for N rows.

    The posterior mean under the Jeffreys prior of a multinomial, Dirichlet(1/2, …, 1/2) (Jeffreys 1946, An invariant
    form for the prior probability in estimation problems).
    """
    total = sum(counts) + SMOOTHING * len(counts)
    return [(count + SMOOTHING) / total for count in counts]


def psi(live: Sequence[float], reference: Sequence[float]) -> float:
    """Population stability index of two lists of positive shares: sum of (p - q) ln(p / q). 0 if alike, no upper bound.

    It is the divergence J of Kullback and Leibler 1951 (On information and sufficiency), KL(p, q) + KL(q, p), in nats.
    """
    return sum((p - q) * math.log(p / q) for p, q in zip(live, reference, strict=True))


def js_divergence(live: Sequence[float], reference: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two lists of positive shares, in bits, so from 0 to 1.

    KL(p, m) / 2 + KL(q, m) / 2 with m = (p + q) / 2 (Lin 1991, Divergence measures based on the Shannon entropy).
    """
    middle = [(p + q) / 2 for p, q in zip(live, reference, strict=True)]
    return (_bits(live, middle) + _bits(reference, middle)) / 2


def chi_square_quantile(level: float, degrees: int) -> float:
    """A quantile of the chi-square distribution; the 99 % point is right within 1 %, whatever the degrees of freedom.

    The cube root is nearly normal (Wilson and Hilferty 1931, The distribution of chi-square).
    """
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + NormalDist().inv_cdf(level) * math.sqrt(spread)) ** 3


def psi_noise(bins: int, rows: float, training_rows: float, level: float = NOISE_LEVEL) -> float:
    """What the PSI of unshifted data stays below with this chance; `bins` at least 2.

    Without drift PSI is about (1/N + 1/M) times chi-square with K - 1 degrees of freedom, for N live rows, M training
    rows and K bins (Yurdakul 2018, Statistical properties of population stability index).
    """
    return chi_square_quantile(level, bins - 1) * (1 / rows + 1 / training_rows)


def share_noise(share: float, rows: float, training_rows: float, level: float = NOISE_LEVEL) -> float:
    """What the share of one bin, unshifted, exceeds that of the training rows by at most, with this chance.

    The normal approximation of the difference of two proportions: z sqrt(q (1 - q) (1/N + 1/M)).
    """
    return NormalDist().inv_cdf(level) * math.sqrt(share * (1 - share) * (1 / rows + 1 / training_rows))


def is_drift(counts: Sequence[float], reference: Sequence[float], training_rows: float) -> bool:
    """Whether these rows, counted by bin, would raise the alert if they stayed so."""
    rows = sum(counts)
    if rows < ROWS_MIN or len(counts) < 2:
        return False
    distance = psi(smoothed_shares(counts), reference)
    return distance > PSI_MAX and distance > psi_noise(len(counts), rows, training_rows)


def _bits(shares: Sequence[float], others: Sequence[float]) -> float:
    return sum(p * math.log2(p / q) for p, q in zip(shares, others, strict=True))
