"""Each alert of drift fires when it should, and is silent with few rows, without traffic, and without drift."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from monitoring.rules.drift import rules
from tests.monitoring.drift_series import STEP_MINUTES, Worked, absent, firing, run_drift_rules

EVEN = [0.2] * 5
ALERTS = {rule["alert"] for group in rules()["groups"] for rule in group["rules"] if "alert" in rule}


def worked(per_minute: float, *, shifted: str = "", training_rows: int = 10_000) -> Worked:
    """Return a model with so many rows a minute; `shifted` names the parts that have drifted."""
    worker = Worked()
    worker.trained_on(training_rows)

    def spread(name: str, usual: Sequence[float], other: Sequence[float]) -> list[float]:
        return [share * per_minute for share in (other if shifted == name else usual)]

    worker.feature("length", spread("FeatureDrift", EVEN, [0.7, 0.3, 0, 0, 0]), EVEN)
    worker.feature("width", spread("MissingFeatures", [0.5, 0.4, 0.1], [0.4, 0.35, 0.25]), [0.5, 0.4, 0.1], "missing")
    worker.feature("colour", spread("unknown colours", [0.6, 0.3, 0.1], [0.5, 0.3, 0.2]), [0.6, 0.3, 0.1], "other")
    worker.output(spread("OutputDrift", [0.3, 0.7], [0.8, 0.2]), [0.3, 0.7], target="")
    values = spread("OutOfRange", [0, 0.5, 0.5, 0], [0.04, 0.5, 0.4, 0.06])
    worker.histogram("inference_feature_value", _buckets(values, "0.0", "5.0", "10.0"), feature="length")
    sureness = spread("LowConfidence", [0, 0.1, 0.2, 0.7], [0, 0.7, 0.2, 0.1])
    worker.histogram("inference_prediction_confidence", _buckets(sureness, "0.5", "0.6", "0.7"))
    return worker


def _buckets(counts: Sequence[float], *bounds: str) -> dict[str, float]:
    return {bound: sum(counts[: at + 1]) for at, bound in enumerate((*bounds, "+Inf"))}


CASES: dict[str, dict[str, str]] = {
    "FeatureDrift": {"feature": "length"},
    "OutputDrift": {},
    "LowConfidence": {},
    "MissingFeatures": {"feature": "width"},
    "OutOfRange": {"feature": "length"},
}


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == ALERTS


@pytest.mark.parametrize("alert", CASES)
@pytest.mark.parametrize("per_minute", [50, 1], ids=["by the hour", "by the day"])
def test_it_fires(alert: str, per_minute: float, tmp_path: Path) -> None:
    run_drift_rules(tmp_path, worked(per_minute, shifted=alert).series, firing(alert, **CASES[alert]))


def test_unknown_texts_are_out_of_range(tmp_path: Path) -> None:
    run_drift_rules(tmp_path, worked(50, shifted="unknown colours").series, firing("OutOfRange", feature="colour"))


@pytest.mark.parametrize("alert", CASES)
def test_the_others_are_silent(alert: str, tmp_path: Path) -> None:
    """Each kind of drift raises its own alert only."""
    run_drift_rules(tmp_path, worked(50, shifted=alert).series, absent(f'ALERTS{{alertname!="{alert}"}}'))


@pytest.mark.parametrize("alert", CASES)
def test_it_is_silent_of_few_rows(alert: str, tmp_path: Path) -> None:
    """144 rows a day."""
    run_drift_rules(tmp_path, worked(0.1, shifted=alert).series, absent("ALERTS"))


@pytest.mark.parametrize("per_minute", [0, 0.1, 50], ids=["idle", "little", "much"])
def test_all_is_silent_without_drift(per_minute: float, tmp_path: Path) -> None:
    run_drift_rules(tmp_path, worked(per_minute).series, absent("ALERTS"))


@pytest.mark.parametrize("training_rows", [0, 2], ids=["unknown", "few"])
def test_chance_explains_much_of_a_small_training_set(training_rows: int, tmp_path: Path) -> None:
    worker = worked(50, shifted="FeatureDrift", training_rows=training_rows)
    run_drift_rules(tmp_path, worker.series, absent("ALERTS"))


def test_the_hour_decides_where_it_holds_enough_rows(tmp_path: Path) -> None:
    """Drift that has ended stays in the day's window; while there is traffic, the alert ends with the hour."""
    worker = Worked()
    worker.trained_on(10_000)
    for bin_, early, late in (("00", 50, 5), ("01", 0, 5)):
        worker.gauge("inference_feature_reference_ratio", 0.5, feature="length", bin=bin_)
        worker.counter("inference_feature_bin_total", 0, feature="length", bin=bin_)
        worker.series[-1]["values"] = _changing(early, late)
    run_drift_rules(tmp_path, worker.series, firing("FeatureDrift", "24h", feature="length"), absent("ALERTS", "26h"))


def _changing(early: int, late: int) -> str:
    """A counter with other rows per minute from the 24th hour on."""
    steps = 24 * 60 // STEP_MINUTES
    then = 1000 + early * STEP_MINUTES * steps
    return f"1000+{early * STEP_MINUTES}x{steps} {then + late * STEP_MINUTES}+{late * STEP_MINUTES}x30"
