"""Models that share workers: a slow one must not make the others slow."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from headrace import export
from headrace.models.store import ModelStore
from tests.support.puppet import Act, Puppet
from tests.support.stack import Stack

SLOW_SECONDS = 1.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("lanes")
    store = ModelStore(folder / "models")
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    for name in ("quick", "slow"):
        estimator = Puppet().fit(rows, np.array(["high", "low"]))
        names = ["value", "act"]
        export(estimator, rows, name=name, store=store, feature_names=names, scores={}, extra_modules=["tests"])
    stack = Stack(folder, folder / "models", DEFAULT_MODEL="quick", PREDICT_DEADLINE_SECONDS="30")
    try:
        yield stack.start()
    finally:
        stack.close()


def test_a_slow_model_does_not_delay_a_quick_one(stack: Stack) -> None:
    stop = Event()

    def keep_asking() -> int:
        answered = 0
        while not stop.is_set():
            answer = stack.http.post("/models/slow/predict", json={"value": SLOW_SECONDS, "act": Act.SLEEP})
            answered += answer.status_code == 200
        return answered

    def seconds() -> float:
        started = time.perf_counter()
        assert stack.predict({"value": 1, "act": Act.ANSWER}).json()["prediction"] == "high"
        return time.perf_counter() - started

    for _ in range(5):
        seconds()
    with ThreadPoolExecutor(6) as pool:
        callers = [pool.submit(keep_asking) for _ in range(6)]
        try:
            # The gateway learns from the first answer that the model is slow.
            stack.http.post("/models/slow/predict", json={"value": SLOW_SECONDS, "act": Act.SLEEP})
            waits = [seconds() for _ in range(50)]
        finally:
            stop.set()
        assert sum(caller.result() for caller in callers) >= len(callers)
    assert sorted(waits)[len(waits) * 9 // 10] < SLOW_SECONDS / 2, waits


def test_slow_jobs_do_not_delay_predictions_nor_predictions_jobs(stack: Stack) -> None:

    def seconds() -> float:
        started = time.perf_counter()
        assert stack.predict({"value": 1, "act": Act.ANSWER}).json()["prediction"] == "high"
        return time.perf_counter() - started

    seconds()
    jobs = [
        stack.http.post("/models/slow/jobs", json={"value": SLOW_SECONDS, "act": Act.SLEEP}).json()["id"]
        for _ in range(6)
    ]
    waits: list[float] = []
    while any(stack.http.get(f"/jobs/{job}").json()["status"] in ("queued", "running") for job in jobs):
        waits.append(seconds())
        assert sum(waits) < 60
    assert all(stack.outcome(job)["status"] == "succeeded" for job in jobs)
    assert len(waits) > 10
    assert sorted(waits)[len(waits) * 9 // 10] < SLOW_SECONDS / 2, waits
