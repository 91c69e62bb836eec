"""A CPU-heavy model, a random forest of about 200 MB, with two pool children or two workers against one.

The module also measures the memory that the second child adds. Four connections ask for 250 rows each. Memory is the
PSS of the worker's processes after that load, so it includes writes into shared pages during prediction.
"""

from pathlib import Path

import numpy as np
import orjson
from sklearn.ensemble import RandomForestRegressor

from bench.load import run_wrk
from bench.pace import Pace
from bench.resources import pss_bytes
from headrace import export
from headrace.models.store import ModelStore
from tests.support.stack import Stack

TRAINING_ROWS, FEATURES = 20_000, 8
REQUEST_ROWS, CONNECTIONS = 250, 4


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return rows per second with one child, two children and two workers, and the bytes that a child adds."""
    store = scratch / "forest-models"
    body = _grow(store, pace.forest_trees)
    one, one_bytes = _serve(scratch / "forest-1", store, body, pace, children=1, workers=1)
    children, two_bytes = _serve(scratch / "forest-2", store, body, pace, children=2, workers=1)
    workers, _ = _serve(scratch / "forest-2-workers", store, body, pace, children=1, workers=2)
    return {
        "forest.one_child_rows_per_second": one,
        "forest.two_children_rows_per_second": children,
        "forest.two_workers_rows_per_second": workers,
        "forest.model_bytes": ModelStore(store).manifest("forest").artifact.size_bytes,
        "forest.second_child_bytes": two_bytes - one_bytes,
    }


def _grow(store: Path, trees: int) -> bytes:
    """Fit the forest on noise, which makes deep trees; return the body of a request to it."""
    random = np.random.default_rng(0)
    rows, targets = random.random((TRAINING_ROWS, FEATURES)), random.random(TRAINING_ROWS)
    forest = RandomForestRegressor(trees, max_features=2, n_jobs=2, random_state=0).fit(rows, targets)
    # One thread, because a served forest has one too: the workers are the parallelism.
    forest.n_jobs = 1
    if not (store / "forest").exists():
        export(forest, rows, name="forest", store=store)
    names = [f"x{column}" for column in range(FEATURES)]
    return orjson.dumps({"instances": [dict(zip(names, row, strict=True)) for row in rows[:REQUEST_ROWS].tolist()]})


def _serve(folder: Path, store: Path, body: bytes, pace: Pace, children: int, workers: int) -> tuple[float, int]:
    """Return rows per second, and the memory of all workers in bytes."""
    folder.mkdir()
    stack = Stack(folder, store, workers, DEFAULT_MODEL="forest", WORKER_CONCURRENCY=str(children))
    try:
        stack.start()
        stack.wait_for_slots(children * workers)
        run_wrk(f"{stack.url}/predict", body, CONNECTIONS, pace.warm_up_seconds)
        seen = run_wrk(f"{stack.url}/predict", body, CONNECTIONS, 2 * pace.seconds)
        assert not seen.errors, f"{seen.errors} requests to the forest failed"
        return REQUEST_ROWS * seen.requests_per_second, pss_bytes(worker.pid for worker in stack.workers)
    finally:
        stack.close()
