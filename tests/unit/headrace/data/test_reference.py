from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.data.reference import (
    bin_positions,
    class_reference,
    histogram_edges,
    numeric_reference,
    quantile_edges,
    rounded_range,
    shortest,
    smoothed_ratios,
)

Values = NDArray[np.float64]
RANDOM = np.random.default_rng(0)

SHAPES: dict[str, Values] = {
    "constant": np.full(50, 5.0),
    "constant zero": np.zeros(50),
    "constant negative": np.full(50, -3e-7),
    "smallest number there is": np.full(3, 5e-324),
    "one row": np.array([2.5]),
    "flag, nearly always 1": np.array([1.0] * 97 + [0.0] * 3),
    "flag, nearly always 0": np.array([0.0] * 97 + [1.0] * 3),
    "nine of ten are tied at the top": np.concatenate([np.arange(10.0), np.full(90, 100.0)]),
    "nine of ten are tied at the bottom": np.concatenate([np.zeros(90), np.arange(1.0, 11.0)]),
    "few different values": RANDOM.integers(0, 3, 2_000).astype(np.float64),
    "normal": RANDOM.normal(size=2_000),
    "skewed": RANDOM.lognormal(sigma=3.0, size=500),
    "all the same but for the last bit": np.array([1.0, np.nextafter(1.0, 2.0)]),
    "a day of timestamps": 1.7e9 + RANDOM.uniform(0, 86_400, 300),
    "a second of timestamps": 1.7e9 + RANDOM.uniform(0, 1, 300),
    "huge": RANDOM.uniform(-1e300, 1e300, 300),
    "tiny": RANDOM.uniform(0, 1e-300, 300),
}

each_shape = pytest.mark.parametrize("values", SHAPES.values(), ids=SHAPES)


@each_shape
def test_ratios_sum_to_one_and_none_is_zero(values: Values) -> None:
    reference = numeric_reference(values)

    assert sum(reference.ratios) == pytest.approx(1, abs=1e-9)
    assert all(0 < ratio < 1 for ratio in reference.ratios)


@each_shape
def test_edges_rise_strictly_whatever_the_ties(values: Values) -> None:
    edges = numeric_reference(values).edges

    assert edges
    assert all(lower < upper for lower, upper in pairwise(edges))


@each_shape
def test_every_bin_of_a_feature_that_varies_holds_a_training_row(values: Values) -> None:
    edges = quantile_edges(values, 5)

    if np.ptp(values) > 0:
        assert set(bin_positions(values, edges)) == set(range(len(edges) + 1))


@each_shape
def test_histogram_bounds_rise_and_cover_the_training_range(values: Values) -> None:
    edges = histogram_edges(values)

    assert 2 <= len(edges) <= 12
    assert all(lower < upper for lower, upper in pairwise(edges))
    assert edges[0] < values.min() <= values.max() < edges[-1]


def test_histogram_bounds_are_numbers_that_a_person_reads() -> None:
    assert histogram_edges(np.array([4.3, 7.9])) == [4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 8.5]
    assert histogram_edges(np.array([0.1, 0.9])) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert histogram_edges(np.array([0.1, 2.5])) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75]
    assert histogram_edges(np.array([-2e6, 1e6])) == [-2.5e6, -2e6, -1.5e6, -1e6, -5e5, 0.0, 5e5, 1e6, 1.5e6]


def test_a_value_on_an_edge_belongs_to_the_bin_below_it() -> None:
    below, above = np.nextafter(2.0, 1.0), np.nextafter(2.0, 3.0)

    assert bin_positions(np.array([below, 2.0, above, -1e9, 1e9]), [1.0, 2.0]).tolist() == [1, 1, 2, 0, 2]


def test_small_training_sets_get_five_bins_and_others_ten() -> None:
    small, large = numeric_reference(np.arange(999.0)), numeric_reference(np.arange(1_000.0))

    assert small.bins == ["00", "01", "02", "03", "04"]
    assert large.bins == ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09"]
    assert large.edges == [99.0, 199.0, 299.0, 399.0, 499.0, 599.0, 699.0, 799.0, 899.0]
    assert large.ratios == pytest.approx([0.1] * 10)


def test_a_constant_feature_shows_drift_to_either_side() -> None:
    reference = numeric_reference(np.full(100, 5.0))

    assert bin_positions(np.array([4.9, 5.0, 5.1]), reference.edges or []).tolist() == [0, 1, 2]
    assert reference.ratios == pytest.approx([0.5 / 101.5, 100.5 / 101.5, 0.5 / 101.5])


def test_a_flag_that_is_nearly_always_set_still_has_two_bins() -> None:
    reference = numeric_reference(SHAPES["flag, nearly always 1"])

    assert reference.edges == [0.0]
    assert reference.ratios == pytest.approx([3.5 / 101, 97.5 / 101])


def test_smoothing_adds_half_an_observation_to_each_bin() -> None:
    assert smoothed_ratios([0, 3, 7]) == pytest.approx([0.5 / 11.5, 3.5 / 11.5, 7.5 / 11.5])


def test_classes_are_bins_by_name_even_if_never_predicted() -> None:
    reference = class_reference(np.array(["a", "c", "c"]), ["a", "b", "c"])

    assert reference.bins == ["a", "b", "c"]
    assert reference.ratios == pytest.approx([1.5 / 4.5, 0.5 / 4.5, 2.5 / 4.5])
    assert reference.edges is None


def test_boolean_and_integer_classes_are_counted_by_value() -> None:
    assert class_reference(np.array([True, False, True]), [False, True]).ratios == pytest.approx([1.5 / 4, 2.5 / 4])
    assert class_reference(np.array([1, 1]), [0, 1]).bins == ["0", "1"]


@each_shape
def test_rounded_edges_bin_the_training_rows_as_observed_values_do(values: Values) -> None:
    observed = [float(values[values <= edge].max()) for edge in quantile_edges(values, 5) if edge >= values.min()]

    assert observed
    assert len(set(observed)) == len(observed)


@each_shape
def test_rounded_ranges_hold_all_values(values: Values) -> None:
    low, high = rounded_range(float(values.min()), float(values.max()))

    assert low <= values.min() and values.max() <= high


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (5.1, 5.2, 5.1),
        (5.0, 6.0, 5.0),
        (10_000_123.0, 10_000_456.0, 10_000_200.0),
        (-1.0, 2.0, 0.0),
        (1234.567, 1234.9, 1234.6),
        (1.0, np.nextafter(1.0, 2.0), 1.0),
    ],
)
def test_an_edge_is_the_number_of_fewest_digits(low: float, high: float, expected: float) -> None:
    assert shortest(low, high) == expected


def test_the_range_of_keys_and_incomes_shows_none_of_them() -> None:
    assert rounded_range(10_000_123.0, 99_999_456.0) == (10_000_000.0, 100_000_000.0)
    assert rounded_range(1_234.56, 1_234_567.89) == (1_200.0, 1_300_000.0)
    assert rounded_range(4.3, 7.9) == (4.3, 7.9)
