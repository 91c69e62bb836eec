"""The systems one after another: closed-loop load in alternating rounds, then latency against offered rate."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.load import run_open_loop, run_wrk
from bench.pace import Pace
from bench.resources import busy_seconds, cpu_seconds, load_seconds, pss_bytes
from bench.results import Results, Round
from bench.systems import SYSTEMS, NotStarted, Running
from scripts.environment import EnvironmentFailed

CONNECTIONS = (1, 64, 256)
RATES = (100, 250, 500, 1000, 2000, 4000, 6000, 8000, 12000, 16000, 24000)
OVERLOADED_SECONDS = 1.0
"""p99 in seconds beyond which a system gets no higher rate."""


def compare(results: Results, names: list[str], pace: Pace, scratch: Path, models: Path) -> None:
    """Measure one round of every system; the first call of a run measures latency against offered rates too."""
    for name in names:
        if name in results.absent:
            continue
        folder = scratch / f"{name.split()[0]}-{len(list(scratch.iterdir()))}"
        folder.mkdir()
        with ExitStack() as stops:
            try:
                running = stops.enter_context(SYSTEMS[name](folder, models))
            except (EnvironmentFailed, NotStarted) as error:
                # Reported as absent, never as slow.
                results.absent[name] = str(error)
                progress(f"{name} is absent: {error}")
                continue
            _closed(results, name, running, pace)
            if name not in results.open:
                _open(results, name, running, pace, folder)


def _closed(results: Results, name: str, running: Running, pace: Pace) -> None:
    run_wrk(running.url, running.body, 8, pace.warm_up_seconds)
    for connections in CONNECTIONS:
        system, others, started = cpu_seconds(running.pids), busy_seconds() - load_seconds(), time.monotonic()
        seen = run_wrk(running.url, running.body, connections, pace.seconds)
        cpu = cpu_seconds(running.pids) - system
        foreign = max(0.0, busy_seconds() - load_seconds() - others - cpu) / (time.monotonic() - started)
        answers = seen.requests_per_second * pace.seconds
        measured = Round(
            **seen.model_dump(), cpu_seconds_per_1000=1000 * cpu / max(answers, 1.0), foreign_cores=foreign
        )
        results.closed.setdefault(name, {}).setdefault(connections, []).append(measured)
        p50, p99 = seen.p50_seconds * 1e3, seen.p99_seconds * 1e3
        progress(
            f"{name:24}{connections:4} connections {seen.requests_per_second:8,.0f}/s, p50 {p50:.2f} ms, "
            f"p99 {p99:.2f} ms, errors {seen.errors}, others took {foreign:.2f} cores"
        )
    results.pss_bytes.setdefault(name, []).append(pss_bytes(running.pids))


def _open(results: Results, name: str, running: Running, pace: Pace, folder: Path) -> None:
    results.open[name] = []
    for rate in RATES[:: pace.rate_step]:
        seen = run_open_loop(running.url, running.body, rate, pace.open_seconds, folder)
        results.open[name].append(seen)
        progress(f"{name:24}{rate:6}/s offered {seen.answered:8,.0f}/s answered, p99 {seen.p99_seconds * 1e3:.2f} ms")
        if seen.p99_seconds > OVERLOADED_SECONDS or seen.answered < 0.8 * rate:
            return


def progress(text: str) -> None:
    """Print one line about the current step."""
    print(text, file=sys.stderr, flush=True)
