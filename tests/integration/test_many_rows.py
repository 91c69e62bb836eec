"""Requests of up to 10,000 rows."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.support.processes import wait_for
from tests.support.puppet import Act
from tests.support.stack import Stack

ROWS = 10_000
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture(scope="module")
def values() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).uniform([4, 2, 1, 0.1], [8, 4.5, 7, 2.5], (ROWS, 4))


@pytest.fixture(scope="module")
def instances(values: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    return [dict(zip(NAMES, row, strict=True)) for row in values.tolist()]


def assert_predicted_by_estimator(
    answer: dict[str, Any], models: Path, iris: Manifest, values: np.ndarray[Any, Any]
) -> None:
    estimator = joblib.load(io.BytesIO(ModelStore(models).artifact(iris)))
    assert answer["predictions"] == estimator.predict(values).tolist()
    shares = np.array([list(row.values()) for row in answer["probabilities"]])
    assert shares == pytest.approx(estimator.predict_proba(values), abs=1e-9)


def test_ten_thousand_rows_are_answered_like_the_estimator_does(
    stack: Stack, iris_models: Path, iris: Manifest, values: np.ndarray[Any, Any], instances: list[dict[str, float]]
) -> None:
    answer = stack.predict(instances)

    assert answer.status_code == 200, answer.text
    assert_predicted_by_estimator(answer.json(), iris_models, iris, values)
    assert answer.json()["timing"]["queue_ms"] < answer.json()["timing"]["total_ms"]


def test_ten_thousand_rows_are_a_job(
    stack: Stack, iris_models: Path, iris: Manifest, values: np.ndarray[Any, Any], instances: list[dict[str, float]]
) -> None:
    job = stack.outcome(stack.submit(instances))

    assert job["status"] == "succeeded"
    assert_predicted_by_estimator(job["result"], iris_models, iris, values)


def test_more_rows_are_refused(stack: Stack, instances: list[dict[str, float]]) -> None:
    assert stack.predict([*instances, instances[0]]).status_code == 422


def test_one_caller_of_many_rows_does_not_hold_up_the_others(new_stack: NewStack, puppet_models: Path) -> None:
    # 10 ms per row are 10 s of work. The two pool children take 5 s for it if they do nothing else.
    slow = [{"value": 0.01, "act": Act.SLEEP}] * 1_000
    stack = new_stack(puppet_models, DEFAULT_MODEL="puppet", PREDICT_DEADLINE_SECONDS="30")
    stack.start()
    for _ in range(3):
        stack.predict(slow[:4])
    with ThreadPoolExecutor(1) as executor:
        large = executor.submit(stack.predict, slow)
        wait_for("rows wait", lambda: "inference_waiting_rows 0.0" not in stack.http.get("/metrics").text)
        waits = []
        while not large.done():
            started = time.monotonic()
            answer = stack.predict({"value": 1, "act": Act.ANSWER})
            waits.append(time.monotonic() - started)
            assert answer.status_code == 200
        assert large.result().json()["predictions"] == ["high"] * 1_000
    assert len(waits) > 10
    # A caller waits for two chunks of 20 ms at most; behind the whole request it would wait about 5 s.
    assert np.median(waits) < 1


def test_a_failing_row_is_named_by_its_place_in_the_request(new_stack: NewStack, puppet_models: Path) -> None:
    rows = [{"value": 1, "act": Act.ANSWER}] * 50
    rows[33] = {"value": 1, "act": Act.RAISE}
    stack = new_stack(puppet_models, DEFAULT_MODEL="puppet", BATCH_ROWS_MAX="8").start()

    answer = stack.predict(rows)

    assert (answer.status_code, answer.json()["rows"]) == (422, [33])
    assert stack.predict(rows[:33]).json()["predictions"] == ["high"] * 33
