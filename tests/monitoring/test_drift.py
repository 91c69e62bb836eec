"""The formulas of drift, against values that were computed elsewhere."""

import math

import pytest

from headrace.data.reference import smoothed_ratios
from monitoring import drift

HALVES, TILTED = [0.5, 0.5], [0.9, 0.1]


@pytest.mark.parametrize("counts", [[0, 0], [3, 0, 7], [1000] * 10])
def test_live_rows_are_smoothed_like_training_rows(counts: list[int]) -> None:
    assert drift.smoothed_shares(counts) == pytest.approx(smoothed_ratios(counts), rel=1e-12)


def test_psi() -> None:
    assert drift.psi(HALVES, HALVES) == 0
    assert drift.psi(TILTED, HALVES) == drift.psi(HALVES, TILTED) == pytest.approx(0.8 * math.log(3), rel=1e-12)


def test_js_divergence() -> None:
    assert drift.js_divergence(HALVES, HALVES) == 0
    # scipy.spatial.distance.jensenshannon([0.9, 0.1], [0.5, 0.5], base=2) ** 2
    assert drift.js_divergence(TILTED, HALVES) == pytest.approx(0.1467931024, abs=1e-9)
    assert drift.js_divergence([1 - 1e-12, 1e-12], [1e-12, 1 - 1e-12]) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("degrees", "value"), [(1, 6.6349), (2, 9.2103), (4, 13.2767), (9, 21.6660), (20, 37.5662)])
def test_chi_square_quantile(degrees: int, value: float) -> None:
    """The reference is a table of the 99 % points."""
    assert drift.chi_square_quantile(0.99, degrees) == pytest.approx(value, rel=0.01)


def test_share_noise() -> None:
    # Standard deviation of the difference of two shares of a half, of 100 rows each, times the 99 % point.
    assert drift.share_noise(0.5, 100, 100) == pytest.approx(2.3263479 * math.sqrt(0.25 / 50), rel=1e-7)


def test_drift_needs_rows_a_distance_and_more_than_chance() -> None:
    far = [150, 50]
    assert drift.is_drift(far, HALVES, 10_000)
    assert not drift.is_drift([149, 50], HALVES, 10_000), "too few rows"
    assert not drift.is_drift([120, 80], HALVES, 10_000), "too near"
    assert not drift.is_drift(far, HALVES, 10), "too few training rows"
    assert not drift.is_drift([1000], [1.0], 10_000), "only one bin"
