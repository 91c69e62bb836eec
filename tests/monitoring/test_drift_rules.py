"""The recording rules and the formulas in Python have equal results for any counts."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.data.reference import smoothed_ratios
from monitoring import drift
from tests.monitoring.drift_series import MODEL, Worked, absent, near, run_drift_rules

MINUTES = {"15m": 15, "1h": 60, "24h": 1440}


def some_counts(chance: random.Random, bins: int) -> list[int]:
    """Return rows per minute and bin; some bins are empty, and some distributions far from even."""
    tilt = chance.choice([0.0, 1.0, 3.0])
    return [
        0 if chance.random() < 0.2 else round(40 * chance.random() * math.exp(-tilt * at / bins)) for at in range(bins)
    ]


def expected(
    metric: str, labels: dict[str, str], counts: Sequence[int], reference: list[float], training_rows: int
) -> list[dict[str, Any]]:
    """Return queries for the recorded series of a distribution in all windows; `counts` are rows per minute."""
    queries = []
    for window, minutes in MINUTES.items():
        seen = [count * minutes for count in counts]
        total = sum(seen)
        queries.append(near(f"{metric}:increase{window}", total, labels))
        if total < drift.ROWS_MIN:
            queries.append(absent(f'{{__name__=~"{metric}:(psi|js|psi_noise){window}", {_selector(labels)}}}'))
            continue
        shares = drift.smoothed_shares(seen)
        queries += [
            near(f"{metric}:psi{window}", drift.psi(shares, reference), labels),
            near(f"{metric}:js{window}", drift.js_divergence(shares, reference), labels),
            near(f"{metric}:psi_noise{window}", drift.psi_noise(len(seen), total, training_rows), labels),
        ]
    return queries


def _selector(labels: dict[str, str]) -> str:
    return ", ".join(f'{label}="{value}"' for label, value in {**MODEL, **labels}.items())


@pytest.mark.parametrize("seed", range(4))
def test_the_rules_are_the_formulas(seed: int, tmp_path: Path) -> None:
    """Two replicas count; both report the same about the training rows, which is not added up."""
    chance = random.Random(seed)
    training_rows = chance.choice([120, 1_000, 50_000])
    replicas = [Worked("worker1"), Worked("worker2")]
    queries = []
    for replica in replicas:
        replica.trained_on(training_rows)
    for at in range(5):
        bins = chance.choice([2, 5, 10, 21])
        reference = smoothed_ratios(some_counts(chance, bins))
        counts = [some_counts(chance, bins) for _ in replicas]
        for replica, counted in zip(replicas, counts, strict=True):
            replica.feature(f"x{at}", counted, reference)
        both = [sum(each) for each in zip(*counts, strict=True)]
        queries += expected("feature:inference_feature", {"feature": f"x{at}"}, both, reference, training_rows)
    for target in ("price", "weight"):
        reference = smoothed_ratios(some_counts(chance, 7))
        counted = some_counts(chance, 7)
        replicas[0].output(counted, reference, target=target)
        queries += expected("target:inference_output", {"target": target}, counted, reference, training_rows)
    run_drift_rules(tmp_path, [each for replica in replicas for each in replica.series], *queries)


def test_the_only_output_of_a_model_has_no_target(tmp_path: Path) -> None:
    worker = Worked()
    worker.trained_on(1000)
    worker.output([3, 4, 0], [0.2, 0.3, 0.5], target="")
    run_drift_rules(tmp_path, worker.series, *expected("target:inference_output", {}, [3, 4, 0], [0.2, 0.3, 0.5], 1000))


def test_nothing_is_said_of_few_rows(tmp_path: Path) -> None:
    """10 rows a minute are too few for 15 minutes; a bin without a count exists all the same."""
    worker = Worked()
    worker.trained_on(1000)
    worker.feature("x", [10, 0], [0.5, 0.5])
    unseen = 'feature="x", bin="01"'
    worker.series = [each for each in worker.series if not ("_total" in each["series"] and unseen in each["series"])]
    queries = expected("feature:inference_feature", {"feature": "x"}, [10, 0], [0.5, 0.5], 1000)
    assert sum(not query["exp_samples"] for query in queries) == 1
    run_drift_rules(tmp_path, worker.series, *queries)


def test_a_single_bin_cannot_drift(tmp_path: Path) -> None:
    """No text is frequent enough for a bin of its own."""
    worker = Worked()
    worker.trained_on(1000)
    worker.feature("x", [100], [1.0], last="other")
    noise = absent('{__name__=~"feature:inference_feature:(degrees|chi_square|psi_noise.*)"}')
    known = near("feature:inference_feature:psi1h", 0.0, {"feature": "x"})
    run_drift_rules(tmp_path, worker.series, noise, known, absent("ALERTS"))


def test_shares_of_missing_and_unknown_values(tmp_path: Path) -> None:
    worker = Worked()
    worker.trained_on(1000)
    worker.feature("length", [60, 20, 20], [0.4, 0.5, 0.1], last="missing")
    # 2 below the first bound, 3 above the last.
    worker.histogram("inference_feature_value", {"-0.5": 2, "1.0": 40, "10.0": 77, "+Inf": 80}, feature="length")
    worker.feature("colour", [88, 12], [0.9, 0.1], last="other")
    queries = []
    for window, minutes in MINUTES.items():
        share = f"feature:inference_feature:{{}}{window}".format
        chance = drift.share_noise(0.1, 100 * minutes, 1000)
        queries += [
            near(share("missing_ratio"), 0.2, {"feature": "length"}),
            near(share("missing_excess"), 0.2 - 0.1 - chance, {"feature": "length"}),
            near(share("out_of_range_ratio"), 0.05, {"feature": "length"}),
            near(share("out_of_range_excess"), 0.05, {"feature": "length"}),
            near(share("out_of_range_ratio"), 0.12, {"feature": "colour"}),
            near(share("out_of_range_excess"), 0.12 - 0.1 - chance, {"feature": "colour"}),
            absent(f'{share("missing_ratio")}{{feature="colour"}}'),
        ]
    run_drift_rules(tmp_path, worker.series, *queries)


def test_confidence(tmp_path: Path) -> None:
    worker = Worked()
    worker.histogram(
        "inference_prediction_confidence", {"0.5": 0, "0.6": 30, "0.7": 40, "0.8": 90, "1.0": 100, "+Inf": 100}
    )
    queries = []
    for window in MINUTES:
        queries += [
            near(f"version:inference_prediction_confidence:low_ratio{window}", 0.3, {}),
            near(f"version:inference_prediction_confidence:median{window}", 0.72, {}),
        ]
    run_drift_rules(tmp_path, worker.series, *queries)
