"""Drawn rows against the reference that they are drawn from, by the drift measures that the alerts have."""

import math
from bisect import bisect_left
from collections import Counter
from typing import Any

import pytest

from demo.column import Column
from demo.model import Model, NotServed
from demo.sampler import Row, Sampler
from headrace.models.manifest import OTHER_BIN, Feature, Reference, Sample
from monitoring.drift import PSI_MAX, psi, psi_noise, smoothed_shares
from tests.support import manifests
from tests.unit.demo.conftest import model

ROWS = 3_000
# What is known exactly is as many rows as one likes.
EXACT = 1e9


def bin_of(feature: Feature, value: Any) -> str:
    """As a worker counts it."""
    if value is None:
        return feature.reference.bins[-1]
    if feature.reference.edges is not None:
        return feature.reference.bins[bisect_left(feature.reference.edges, value)]
    return str(value) if str(value) in feature.reference.bins else OTHER_BIN


def distance(feature: Feature, rows: list[Row]) -> float:
    counts = Counter(bin_of(feature, row[feature.name]) for row in rows)
    return psi(smoothed_shares([counts[bin_] for bin_ in feature.reference.bins]), feature.reference.ratios)


def drawn(model: Model, drifting: str | None = None, deviations: float = 2.5, drift: float = 0.0) -> list[Row]:
    sampler = Sampler(model, 1, drifting, deviations)
    return [sampler.row(drift) for _ in range(ROWS)]


def noise(feature: Feature) -> float:
    return psi_noise(len(feature.reference.bins), ROWS, EXACT, level=0.9999)


def test_rows_are_as_in_training(mixed: Model) -> None:
    rows = drawn(mixed)
    assert {feature.type for feature in mixed.features} == {"number", "string", "boolean"}
    assert any(feature.nullable for feature in mixed.features)
    for feature in mixed.features:
        assert distance(feature, rows) < noise(feature), feature.name


@pytest.mark.parametrize("name", ["age", "income", "city", "plan", "member", "owner"])
def test_only_the_feature_that_drifts_does(mixed: Model, name: str) -> None:
    rows = drawn(mixed, name, drift=1.0)
    for feature in mixed.features:
        if feature.name == name:
            assert distance(feature, rows) > PSI_MAX
        else:
            assert distance(feature, rows) < noise(feature), feature.name


def test_half_a_window_of_drift_is_enough(mixed: Model) -> None:
    """The window holds what came before, too."""
    age = mixed.features[0]
    assert distance(age, drawn(mixed, "age") + drawn(mixed, "age", drift=1.0)) > PSI_MAX


def test_numbers_stay_in_the_training_range_and_whole_ones_whole(mixed: Model) -> None:
    rows = drawn(mixed)
    for feature in mixed.features[:2]:
        values = [row[feature.name] for row in rows if row[feature.name] is not None]
        assert feature.minimum is not None and feature.maximum is not None
        assert feature.minimum <= min(values) and max(values) <= feature.maximum
    assert all(row["age"].is_integer() for row in rows + drawn(mixed, "age", drift=0.3))
    assert not all(row["income"].is_integer() for row in rows if row["income"] is not None)


def test_a_number_moves_by_standard_deviations_and_missing_ones_stay(mixed: Model) -> None:
    [still, moved] = [[row["income"] for row in drawn(mixed, "income", 3.0, drift)] for drift in (0.0, 0.5)]
    assert [value is None for value in still] == [value is None for value in moved]
    steps = [b - a for a, b in zip(still, moved, strict=True) if a is not None]
    [step] = {round(step, 6) for step in steps}
    present = [value for value in still if value is not None]
    mean = sum(present) / len(present)
    deviation = (sum((value - mean) ** 2 for value in present) / len(present)) ** 0.5
    assert step == pytest.approx(1.5 * deviation, rel=0.05)


def test_the_same_seed_gives_the_same_rows(mixed: Model) -> None:
    first, second, other = (Sampler(mixed, seed, None, 2.5) for seed in (3, 3, 4))
    rows = [[sampler.row() for _ in range(20)] for sampler in (first, second, other)]
    assert rows[0] == rows[1] != rows[2]


def constant(value: float) -> Feature:
    """As training describes a column that is always the same."""
    below = math.nextafter(value, -math.inf)
    reference = Reference(bins=["00", "01", "02"], ratios=[0.1, 0.8, 0.1], edges=[below, value])
    return Feature(name="same", minimum=value, maximum=value, histogram_edges=[value], reference=reference)


def test_a_constant_stays_in_its_bin_and_can_not_drift() -> None:
    column = Column(constant(1.0), [])
    rows = drawn(model(manifests.mixed(constant(1.0))))
    assert sum(row["same"] == 1.0 for row in rows) > 0.85 * ROWS
    assert not column.can_drift


def test_prose_is_what_the_samples_say() -> None:
    told = model(manifests.mixed(manifests.text("review", None)))
    prose = Model(told.name, told.version, "", told.features, [Sample(row=[text], prediction=1) for text in "ab"])
    assert {row["review"] for row in drawn(prose)} == {"a", "b"}
    assert Sampler(prose, 1, None, 2.5).drifting is None
    with pytest.raises(NotServed, match="no feature 'review' that could drift"):
        Sampler(prose, 1, "review", 2.5)


def test_texts_that_have_no_bin_are_drawn_for_the_bin_of_others() -> None:
    reference = Reference(bins=["red", OTHER_BIN], ratios=[0.5, 0.5])
    colour = Feature(name="colour", type="string", categories=["red", "blue", "pink"], reference=reference)
    assert {row["colour"] for row in drawn(model(manifests.mixed(colour)))} == {"red", "blue", "pink"}
