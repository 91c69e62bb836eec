"""1,000 rows in one `/predict`, against JSON parsing plus `predict_proba` in one process.

The reference parses the same body with orjson, makes an array and calls the estimator; it sends no answer. One caller
sends one request after another. The result of four callers is reported too, because a pool has more than one child.
"""

import time
from pathlib import Path

import numpy as np
import orjson
from threadpoolctl import threadpool_limits

from bench.load import run_wrk
from bench.pace import Pace
from bench.peers.model import FEATURES, load
from bench.systems import ROW, artifact_environment, headrace

ROWS = 1000
BODY = orjson.dumps({"instances": [ROW] * ROWS})


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return rows per second."""
    folder = scratch / "rows"
    folder.mkdir()
    reference = _in_process(folder, models, pace.seconds)
    with headrace(folder, models) as running:
        run_wrk(running.url, BODY, 1, pace.warm_up_seconds)
        by_one, by_four = (run_wrk(running.url, BODY, connections, pace.seconds) for connections in (1, 4))
    assert not by_one.errors + by_four.errors, "requests with many rows failed"
    return {
        "rows.per_second": ROWS * by_one.requests_per_second,
        "rows.four_callers_per_second": ROWS * by_four.requests_per_second,
        "rows.in_process_per_second": reference,
    }


def _in_process(folder: Path, models: Path, seconds: float) -> float:
    model = load(artifact_environment(folder, models)["ARTIFACT"])
    passes, started = 0, time.perf_counter()
    with threadpool_limits(1):
        while time.perf_counter() < started + seconds:
            rows = [[row[name] for name in FEATURES] for row in orjson.loads(BODY)["instances"]]
            model.predict_proba(np.array(rows, dtype=np.float64))
            passes += 1
    return ROWS * passes / (time.perf_counter() - started)
