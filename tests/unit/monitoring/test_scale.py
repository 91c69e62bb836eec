"""Axes: round ticks, and ends that hold every value."""

import math

import pytest

from monitoring.preview.axes import ends, marks, short
from monitoring.preview.colours import DARK
from monitoring.preview.fields import Field
from monitoring.preview.scale import Scale, bounds, ticks, time_ticks


@pytest.mark.parametrize(
    ("low", "high", "count", "marks"),
    [
        (0, 10, 5, [0, 2, 4, 6, 8, 10]),
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.003, 3, [0, 0.001, 0.002, 0.003]),
        (-4, 6, 5, [-4, -2, 0, 2, 4, 6]),
        (0.3, 9.9, 5, [2, 4, 6, 8]),
        (1e9, 1.04e9, 4, [1e9, 1.01e9, 1.02e9, 1.03e9, 1.04e9]),
    ],
)
def test_ticks_are_round(low: float, high: float, count: int, marks: list[float]) -> None:
    assert ticks(low, high, count) == pytest.approx(marks)


def test_no_tick_is_minus_zero() -> None:
    assert all(math.copysign(1, mark) > 0 for mark in ticks(-0.0, 1, 5))


@pytest.mark.parametrize(
    ("values", "least", "ends"),
    [
        ([3, 7.2], 0, (0, 8)),
        ([3, 7.2], None, (3, 8)),
        ([-3.1, 7.2], None, (-5, 10)),
        ([0, 0, 0], 0, (0, 1)),
        ([], None, (0, 1)),
        ([math.nan, math.inf], 0, (0, 1)),
        ([math.nan, 4], 0, (0, 4)),
        ([5], None, (5, 7.5)),
        ([-5], None, (-8, -2)),
        ([-3], 0, (0, 1)),
    ],
)
def test_the_ends_of_an_axis(values: list[float], least: float | None, ends: tuple[float, float]) -> None:
    assert bounds(values, least) == pytest.approx(ends)


@pytest.mark.parametrize(
    ("unit", "most", "texts"),
    [
        ("bytes", 181 * 2**20, ["0 B", "50 MiB", "100 MiB", "150 MiB", "200 MiB"]),
        ("bytes", 700 * 2**20, ["0 B", "200 MiB", "400 MiB", "600 MiB", "800 MiB"]),
        ("decbytes", 1.8e9, ["0 B", "500 MB", "1 GB", "1.5 GB", "2 GB"]),
        ("s", 340, ["0 s", "2 mins", "4 mins", "6 mins"]),
        ("s", 0.34, ["0 s", "100 ms", "200 ms", "300 ms", "400 ms"]),
        ("none", 181, ["0", "50", "100", "150", "200"]),
    ],
)
def test_ticks_are_round_in_the_unit_that_is_written(unit: str, most: float, texts: list[str]) -> None:
    field = Field({"unit": unit, "min": 0}, 0, DARK)
    low, high = ends(field, [most / 3, most])
    assert [text for _, text in marks(field, low, high, 170)] == texts


def test_given_ends_stay() -> None:
    assert bounds([0.2, 3.7], 0, 1) == (0, 1)


def test_a_scale_goes_up_the_page() -> None:
    scale = Scale(0, 10, 100, 0)
    assert [scale.at(value) for value in (0, 5, 10, 20)] == [100, 50, 0, -100]


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        (20, ["02:00:00", "02:00:05", "02:00:10", "02:00:15", "02:00:20"]),
        (900, ["02:00", "02:05", "02:10", "02:15"]),
        (6 * 3600, ["02:00", "04:00", "06:00", "08:00"]),
        (4 * 86_400, ["11-26", "11-27", "11-28", "11-29"]),
    ],
)
def test_moments_are_round(seconds: int, texts: list[str]) -> None:
    start = 1_795_572_000
    marks = time_ticks(start, start + seconds, 4)
    assert [text for _, text in marks] == texts
    assert all(start <= moment <= start + seconds for moment, _ in marks)


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("0.500", "0.5"),
        ("2.50 s", "2.5 s"),
        ("1.00 K", "1 K"),
        ("100%", "100%"),
        ("250 ms", "250 ms"),
        ("1.50K rows/s", "1.5K rows/s"),
        ("0.0100", "0.01"),
    ],
)
def test_ticks_lose_zeros_that_say_nothing(text: str, shorter: str) -> None:
    assert short(text) == shorter
