"""The distance of live data from the training data: the formulas in plain Python, and the limits of the alerts.

The recording rules of `monitoring.rules.drift` are the same in PromQL; tests compare the two. Everything looks at one
column at a time and at its bins: a change that needs a second column, or happens inside a bin, does not show.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

SMOOTHING = 0.5
"""Addition to the count of each bin, of the training rows too."""

NOISE_LEVEL = 0.99
"""Chance that the PSI of one unshifted feature stays below its noise floor. Models have many features."""

ROWS_MIN = 200
"""Rows that a window must hold before it is judged. docs/drift.md has the simulation behind it."""

PSI_MAX = 0.25
"""PSI above which a distribution has shifted: the rule of thumb of credit scoring, where PSI comes from (Siddiqi 2006,
Credit Risk Scorecards, chapter 9: below 0.1 no change, above 0.25 a shift)."""

MISSING_EXCESS_MAX = 0.1
"""Share of missing values beyond that of the training rows and chance."""

OUT_OF_RANGE_EXCESS_MAX = 0.05
"""Share of numbers outside the training range and of unknown texts, beyond that of the training rows and chance."""

LOW_CONFIDENCE = 0.6
"""Confidence up to which an answer counts as unsure; a bucket bound of the histogram."""

CONFIDENCE_ABOVE_CHANCE_MIN = 0.2
"""Least median confidence, as a share of the way from chance (one over the number of classes) to certainty."""


def smoothed_shares(counts: Sequence[float]) -> list[float]:
    """Return the share of each of K bins, never 0: (n_b + 0.5) / (N + 0.5 K) for N rows.

    The posterior mean under the Jeffreys prior of a multinomial, Dirichlet(1/2, …, 1/2) (Jeffreys 1946, An invariant
    form for the prior probability in estimation problems).
    """
    total = sum(counts) + SMOOTHING * len(counts)
    return [(count + SMOOTHING) / total for count in counts]


def psi(live: Sequence[float], reference: Sequence[float]) -> float:
    """Return the population stability index of two lists of positive shares: sum of (p - q) ln(p / q), from 0.

    It is the divergence J of Kullback and Leibler 1951 (On information and sufficiency), KL(p, q) + KL(q, p), in nats.
    """
    return sum((p - q) * math.log(p / q) for p, q in zip(live, reference, strict=True))


def js_divergence(live: Sequence[float], reference: Sequence[float]) -> float:
    """Return the Jensen-Shannon divergence of two lists of positive shares, in bits, so from 0 to 1.

    KL(p, m) / 2 + KL(q, m) / 2 with m = (p + q) / 2 (Lin 1991, Divergence measures based on the Shannon entropy).
    """
    middle = [(p + q) / 2 for p, q in zip(live, reference, strict=True)]
    return (_bits(live, middle) + _bits(reference, middle)) / 2


def chi_square_quantile(level: float, degrees: int) -> float:
    """Return a quantile of the chi-square distribution; the 99 % point is right within 1 % for all degrees of freedom.

    The cube root is nearly normal (Wilson and Hilferty 1931, The distribution of chi-square).
    """
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + NormalDist().inv_cdf(level) * math.sqrt(spread)) ** 3


def psi_noise(bins: int, rows: float, training_rows: float, level: float = NOISE_LEVEL) -> float:
    """Return the value that the PSI of unshifted data stays below with this chance; `bins` is at least 2.

    Without drift PSI is about (1/N + 1/M) times chi-square with K - 1 degrees of freedom, for N live rows, M training
    rows and K bins (Yurdakul 2018, Statistical properties of population stability index).
    """
    return chi_square_quantile(level, bins - 1) * (1 / rows + 1 / training_rows)


def share_noise(share: float, rows: float, training_rows: float, level: float = NOISE_LEVEL) -> float:
    """Return the most by which the share of an unshifted bin exceeds that of the training rows, with this chance.

    The normal approximation of the difference of two proportions: z sqrt(q (1 - q) (1/N + 1/M)).
    """
    return NormalDist().inv_cdf(level) * math.sqrt(share * (1 - share) * (1 / rows + 1 / training_rows))


def is_drift(counts: Sequence[float], reference: Sequence[float], training_rows: float) -> bool:
    """Return True if these rows, counted by bin, would raise the alert."""
    rows = sum(counts)
    if rows < ROWS_MIN or len(counts) < 2:
        return False
    distance = psi(smoothed_shares(counts), reference)
    return distance > PSI_MAX and distance > psi_noise(len(counts), rows, training_rows)


def _bits(shares: Sequence[float], others: Sequence[float]) -> float:
    return sum(p * math.log2(p / q) for p, q in zip(shares, others, strict=True))
