"""Cost of a scrape of a worker: `python -m bench.scrape`, about half a minute.

Prometheus' requests are sent to a worker of 8 pool children whose model has 20 features, while it is idle and while the
children predict.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import httpx
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from headrace import export
from headrace.models.store import ModelStore
from tests.support.stack import Stack

CHILDREN = 8
FEATURES = 20
TRAINING_ROWS = 2_000
SCRAPES = 50
HEADERS = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
"""Headers that Prometheus sends."""
CALLERS = 4


def main() -> None:
    """Print the time of a scrape, and the number of its samples."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        folder = Path(scratch)
        rows = _export(folder / "models")
        with closing(Stack(folder, folder / "models", DEFAULT_MODEL="wide", WORKER_CONCURRENCY=str(CHILDREN))) as stack:
            stack.start()
            stack.wait_for_slots(CHILDREN)
            url = f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics"
            stack.predict(rows)
            text = httpx.get(url, trust_env=False).text
            samples = sum(not line.startswith("#") for line in text.splitlines())
            print(f"{CHILDREN} children, {FEATURES} features: {samples} samples, {len(text) / 1000:.0f} kB")
            print("| worker | median | 95th percentile | longest |\n|---|---:|---:|---:|")
            _report("idle", url)
            _while_busy(stack, rows, lambda: _report("busy", url))


def _export(models: Path) -> list[dict[str, Any]]:
    """Write a model into the store, and return some of its rows."""
    X, y = make_classification(TRAINING_ROWS, FEATURES, n_informative=FEATURES // 2, random_state=0)
    names = [f"feature_{i:02}" for i in range(FEATURES)]
    estimator = LogisticRegression(max_iter=1000).fit(X, y)
    export(estimator, X, store=ModelStore(models), name="wide", feature_names=names, scores={})
    return [dict(zip(names, row, strict=True)) for row in X[:50].tolist()]


def _while_busy(stack: Stack, rows: list[dict[str, Any]], what: Callable[[], None]) -> None:
    done = Event()

    def call() -> None:
        with httpx.Client(base_url=stack.url, timeout=60, trust_env=False) as client:
            while not done.is_set():
                client.post("/predict", json={"instances": rows}).raise_for_status()

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(call) for _ in range(CALLERS)]
        try:
            what()
        finally:
            done.set()
        for caller in callers:
            caller.result()


def _report(name: str, url: str) -> None:
    milliseconds = sorted(_scrape_seconds(url) * 1000 for _ in range(SCRAPES))
    high = milliseconds[int(0.95 * SCRAPES)]
    print(f"| {name} | {statistics.median(milliseconds):.1f} ms | {high:.1f} ms | {milliseconds[-1]:.1f} ms |")


def _scrape_seconds(url: str) -> float:
    # One connection per scrape: Prometheus keeps one, but prometheus-client's server closes it.
    with httpx.Client(trust_env=False, headers=HEADERS) as client:
        asked = time.perf_counter()
        client.get(url).raise_for_status()
        return time.perf_counter() - asked


if __name__ == "__main__":
    main()
