"""Readiness over real processes: busy workers serve, workers that consume nothing do not."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gateway.readiness import ANSWER_SECONDS, FRESH_SECONDS
from headrace import export
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.integration.test_stalled_workers import HANGING_LOOP, cancel
from tests.support.processes import wait_for
from tests.support.puppet import PUPPET_ROW_SECONDS, Act, Puppet
from tests.support.stack import Stack

ROW = {"value": 1, "act": Act.ANSWER}
BUSY_SECONDS = FRESH_SECONDS + 2 * ANSWER_SECONDS


@pytest.fixture
def slow_models(tmp_path: Path) -> Path:
    """A model of two golden rows and no samples, so that a worker has warmed up after four rows."""
    store = ModelStore(tmp_path / "models")
    rows = np.array([[1.0, Act.ANSWER], [-1.0, Act.ANSWER]])
    estimator = Puppet().fit(rows, np.array(["high", "low"]))
    names = ["value", "act"]
    export(
        estimator,
        rows,
        store=store,
        name="slow",
        feature_names=names,
        scores={},
        samples="none",
        extra_modules=["tests"],
    )
    return Path(store.root)


def ready_throughout(stack: Stack, seconds: float) -> list[int]:
    """Ask again and again for so many seconds, and return the statuses."""
    until = time.monotonic() + seconds
    statuses: list[int] = []

    def ask() -> bool:
        statuses.append(stack.status("/readyz"))
        return time.monotonic() > until

    wait_for("the time has passed", ask, 10 * seconds)
    return statuses


def test_a_model_that_is_slower_than_the_probe_is_patient_is_ready(new_stack: NewStack, slow_models: Path) -> None:
    row_seconds = ANSWER_SECONDS + 0.5
    stack = new_stack(
        slow_models, DEFAULT_MODEL="slow", PREDICT_DEADLINE_SECONDS="15", **{PUPPET_ROW_SECONDS: f"{row_seconds}"}
    ).start()

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(stack.predict, ROW) for _ in range(2)]
        assert set(ready_throughout(stack, row_seconds)) == {200}
        assert [answer.result().status_code for answer in answers] == [200, 200]


def test_a_worker_is_ready_while_its_only_child_is_busy_and_not_when_it_consumes_nothing(
    new_stack: NewStack, puppet_models: Path
) -> None:
    stack = new_stack(puppet_models, DEFAULT_MODEL="puppet", WORKER_CONCURRENCY="1", PYTHONPATH=HANGING_LOOP).start()
    job = stack.submit({"value": BUSY_SECONDS, "act": Act.SLEEP})
    stack.wait_running(job)

    assert set(ready_throughout(stack, BUSY_SECONDS)) == {200}

    assert stack.outcome(job)["status"] == "succeeded"
    assert stack.predict(ROW).status_code == 200
    assert stack.status("/readyz") == 200
    cancel(stack.workers[0], "interactive", "bulk")
    wait_for("not ready", lambda: stack.status("/readyz") == 503)
    assert "no answer through the queue" in stack.http.get("/readyz").json()["detail"]
