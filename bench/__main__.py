"""`python -m bench`: this project and a naive FastAPI + Celery app, in turn, on the same machine and broker program."""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from bench.load import Figures, run_wrk
from shared.model_store import ModelStore
from tests.support.processes import Process, free_port, python, wait_for
from tests.support.stack import Stack
from training.__main__ import main as train

CONNECTIONS = (1, 64)
WARM_UP_SECONDS = 2
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@contextmanager
def millrace(folder: Path, models: Path) -> Iterator[str]:
    """This project: gateway, one worker with two children."""
    stack = Stack(folder, models)
    try:
        yield stack.start().url
    finally:
        stack.close()


@contextmanager
def naive_celery(folder: Path, models: Path) -> Iterator[str]:
    """The naive app: uvicorn, one worker with two children."""
    store = ModelStore(models)
    manifest = store.manifest("iris")
    stack = Stack(folder, models)
    port = free_port()
    artifact = folder / manifest.artifact.file
    artifact.write_bytes(store.artifact(manifest))
    environment = {"REDIS_URL": stack.redis_url, "ARTIFACT": str(artifact), "OMP_NUM_THREADS": "1"}
    name = "bench.peers.naive_celery"
    worker = [*python("celery"), "-A", f"{name}:celery_app", "worker", "-c2", "-l", "warning", "--without-gossip"]
    serve = [*python("uvicorn"), f"{name}:app", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stops:
        stops.callback(stack.close)
        stack.start_broker()
        for process in (Process("worker", worker, environment, folder), Process("web", serve, environment, folder)):
            process.start()
            stops.callback(process.stop)
        wait_for("the naive app answers", lambda: _answers(url), 30)
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.post(f"{url}/predict", json=ROW, timeout=15, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


SYSTEMS: dict[str, Callable[..., object]] = {"millrace": millrace, "naive FastAPI + Celery": naive_celery}


def measure(rounds: int, seconds: int) -> dict[str, dict[int, list[Figures]]]:
    """Figures by system and connections; the systems take turns, so that a slow minute of the machine hits all."""
    figures: dict[str, dict[int, list[Figures]]] = {name: {n: [] for n in CONNECTIONS} for name in SYSTEMS}
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as scratch:
        models = Path(scratch) / "models"
        if train(["--store", str(models)]) != 0:
            sys.exit("millrace: no model to measure with")
        for round_ in range(rounds):
            for name, serve in SYSTEMS.items():
                folder = Path(scratch) / f"{round_}-{name.split()[0]}"
                folder.mkdir()
                with serve(folder, models) as url:  # type: ignore[attr-defined]
                    run_wrk(f"{url}/predict", 8, WARM_UP_SECONDS)
                    for connections in CONNECTIONS:
                        seen = run_wrk(f"{url}/predict", connections, seconds)
                        figures[name][connections].append(seen)
                        print(f"round {round_ + 1}  {name:24} {connections:3} connections  {seen}", file=sys.stderr)
    return figures


def table(figures: dict[str, dict[int, list[Figures]]]) -> str:
    """Medians over the rounds, as Markdown."""
    lines = ["| system | connections | requests/s | p50 | p99 | errors |", "|---|---|---|---|---|---|"]
    for name, by_connections in figures.items():
        for connections, runs in by_connections.items():
            rate = statistics.median(run.requests_per_second for run in runs)
            p50 = statistics.median(run.p50_seconds for run in runs) * 1000
            p99 = statistics.median(run.p99_seconds for run in runs) * 1000
            errors = sum(run.errors for run in runs)
            lines.append(f"| {name} | {connections} | {rate:,.0f} | {p50:.2f} ms | {p99:.2f} ms | {errors} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of load per measurement")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("millrace: wrk is not installed (Debian: wrk)")
    figures = measure(options.rounds, options.seconds)
    if options.json:
        raw = {name: {n: [vars(run) for run in runs] for n, runs in by.items()} for name, by in figures.items()}
        options.json.write_text(json.dumps(raw, indent=2) + "\n")
    print(table(figures))


if __name__ == "__main__":
    main()
