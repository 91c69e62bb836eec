"""Cost of all metrics: throughput at 64 connections with them, and with them patched away (`bench.unmetered`)."""

from pathlib import Path

from bench.load import run_wrk
from bench.pace import Pace
from bench.systems import ONE_ROW
from tests.support.processes import Process
from tests.support.stack import Stack

CONNECTIONS = 64
TURNS = 2


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return requests per second with and without metrics, in turn, as the means of two turns each."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(TURNS):
        for metered in rates:
            folder = scratch / f"metrics-{turn}-{metered}"
            folder.mkdir()
            rates[metered].append(_rate(folder, models, pace, metered))
    return {
        "metrics.with_per_second": sum(rates[True]) / TURNS,
        "metrics.without_per_second": sum(rates[False]) / TURNS,
    }


def _rate(folder: Path, models: Path, pace: Pace, metered: bool) -> float:
    stack = Stack(folder, models)
    if not metered:
        for process in (stack.gateway, *stack.workers):
            _leave_metrics_out(process)
    try:
        stack.start()
        run_wrk(f"{stack.url}/predict", ONE_ROW, 8, pace.warm_up_seconds)
        seen = run_wrk(f"{stack.url}/predict", ONE_ROW, CONNECTIONS, 2 * pace.seconds)
        assert not seen.errors, f"{seen.errors} requests failed"
        return seen.requests_per_second
    finally:
        stack.close()


def _leave_metrics_out(process: Process) -> None:
    *python, module = process.command
    process.command = [*python, "bench.unmetered", module]
