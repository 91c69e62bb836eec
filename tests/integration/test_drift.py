"""Drift from the request to the alert.

A real Prometheus scrapes the workers and evaluates the shipped rules, with windows of seconds instead of hours.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from headrace import export
from headrace.models.store import ModelStore
from monitoring.drift import ROWS_MIN
from monitoring.rules.__main__ import dump
from monitoring.rules.drift import Window, rules
from tests.integration.conftest import NewStack
from tests.support.processes import wait_for
from tests.support.prometheus import Prometheus
from tests.support.stack import Stack

NAMES = ["length", "width"]
STEADY, SHIFTED = "steady", "shifted"
SHIFTS = {STEADY: (0.0, 0.0), SHIFTED: (2.0, 0.0)}
"""Shift of the rows that are sent to each model, in standard deviations per feature."""

REQUESTS, ROWS_EACH = 10, 60
WINDOW = "1m"


def population(chance: np.random.Generator, rows: int, shift: tuple[float, float] = (0, 0)) -> NDArray[np.float64]:
    """Draw rows as in training, or shifted by standard deviations; shape (rows, 2)."""
    return chance.normal(loc=shift, size=(rows, len(NAMES)))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a store with two models of the same data."""
    folder = tmp_path / "models"
    rows = population(np.random.default_rng(1), 2_000)
    classes = np.where(rows.sum(axis=1) > 0, "high", "low")
    estimator = LogisticRegression().fit(rows, classes)
    for name in (STEADY, SHIFTED):
        export(estimator, rows, store=ModelStore(folder), name=name, feature_names=NAMES, scores={})
    return folder


@pytest.fixture
def stack(new_stack: NewStack, models: Path) -> Stack:
    return new_stack(models, workers=2, DEFAULT_MODEL=STEADY).start()


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[Prometheus]:
    file = tmp_path / "drift.yml"
    file.write_text(dump(rules([Window("15s"), Window(WINDOW), Window("2m")], alert_after="2s")))
    port = urlsplit(stack.url).port
    assert port is not None
    targets = {"gateway": [port], "worker": stack.metrics_ports}
    with Prometheus(tmp_path, targets, [file]) as prometheus:
        yield prometheus


def send(stack: Stack, model: str, rows: NDArray[np.float64]) -> None:
    instances = [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]
    answer = stack.http.post(f"/models/{model}/predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text


def known_to_all(stack: Stack, prometheus: Prometheus, model: str, chance: np.random.Generator) -> bool:
    """Send one row, and return True once Prometheus has scraped the counters of every worker.

    Prometheus sees no increase in counts from before its first scrape of a counter. A worker makes the counters of a
    model with its first batch, so rows are sent until each worker has had one.
    """
    send(stack, model, population(chance, 1, SHIFTS[model]))
    instances = f'count(count by (instance) (inference_feature_bin_total{{model="{model}"}} offset 2s))'
    return prometheus.value(instances) == len(stack.workers)


def test_shifted_traffic_raises_the_alert_and_unshifted_of_the_same_volume_does_not(
    stack: Stack, prometheus: Prometheus
) -> None:
    chance = np.random.default_rng(2)
    for model in (STEADY, SHIFTED):
        wait_for(f"{model} is scraped", partial(known_to_all, stack, prometheus, model, chance))

    for _ in range(REQUESTS):
        for model, shift in SHIFTS.items():
            send(stack, model, population(chance, ROWS_EACH, shift))

    firing = f'ALERTS{{alertname="FeatureDrift", alertstate="firing", model="{SHIFTED}"}}'
    wait_for("the alert", lambda: prometheus.query(firing))
    assert {labels["feature"] for labels, _ in prometheus.query(firing)} == {"length"}, "width has not shifted"

    for feature in NAMES:
        selector = f'{{model="{STEADY}", feature="{feature}"}}'
        rows = prometheus.value(f"feature:inference_feature:increase{WINDOW}{selector}")
        distance = prometheus.value(f"feature:inference_feature:psi{WINDOW}{selector}")
        assert rows is not None and rows >= ROWS_MIN, "enough rows were compared"
        assert distance is not None and distance < 0.1
    assert prometheus.query(f'last_over_time(ALERTS{{model="{STEADY}"}}[5m])') == [], "not even pending"
