"""Numbers as Grafana writes them."""

import math

import pytest

from monitoring.preview.units import moment, span, write


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "none", "0"),
        (4, "none", "4"),
        (3.14159, "none", "3.14"),
        (31.4159, "none", "31.4"),
        (314.159, "none", "314"),
        (0.012345, "none", "0.0123"),
        (-2.5, "none", "-2.50"),
        (999, "short", "999"),
        (1234, "short", "1.23 K"),
        (5_600_000, "short", "5.60 Mil"),
        (0, "s", "0 s"),
        (0.0000005, "s", "500 ns"),
        (0.00025, "s", "250 µs"),
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.50 s"),
        (60, "s", "1 min"),
        (90, "s", "1.50 mins"),
        (7200, "s", "2 hours"),
        (86_400 * 3, "s", "3 days"),
        (12, "ms", "12 ms"),
        (0.995, "percentunit", "99.5%"),
        (1, "percentunit", "100%"),
        (0.07, "percentunit", "7%"),
        (12.5, "percent", "12.5%"),
        (17, "reqps", "17 req/s"),
        (1500, "rowsps", "1.50K rows/s"),
        (0.5, "ops", "0.500 ops/s"),
        (0, "bytes", "0 B"),
        (1536, "bytes", "1.50 KiB"),
        (512 * 2**20, "bytes", "512 MiB"),
        (1500, "decbytes", "1.50 kB"),
        (1_795_572_000_000, "dateTimeAsIso", "2026-11-25 02:00:00"),
        (3, "furlongs", "3 furlongs"),
        (math.nan, "s", "NaN"),
        (math.inf, "s", "∞"),
        (-math.inf, "bytes", "-∞"),
    ],
)
def test_a_value_with_its_unit(value: float, unit: str, text: str) -> None:
    assert write(value, unit) == text


def test_decimals_that_are_asked_for() -> None:
    assert write(1 / 3, "none", 1) == "0.3"
    assert write(1, "percentunit", 1) == "100.0%"
    assert write(1234, "short", 0) == "1 K"


def test_times() -> None:
    assert moment(0) == "1970-01-01 00:00:00"
    assert [span(seconds) for seconds in (45, 60, 900, 7200, 86_400)] == [
        "45 seconds",
        "1 minute",
        "15 minutes",
        "2 hours",
        "1 day",
    ]
