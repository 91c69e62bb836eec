"""Systems on one core and on two, with the load on the same cores; this project also with two gateway processes.

mosec has figures only where its environment was made.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.environments import has_environment
from bench.load import run_wrk
from bench.pace import Pace
from bench.resources import tree
from bench.systems import HEADRACE, MOSEC, PLAIN, SYSTEMS, NotStarted, Start, headrace
from scripts.environment import EnvironmentFailed

CONNECTIONS = 64


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return requests per second at 64 connections, by system and number of cores."""
    systems: dict[str, Start] = {
        "headrace": SYSTEMS[HEADRACE],
        "headrace_two_gateways": partial(headrace, GATEWAY_PROCESSES="2"),
        "plain": SYSTEMS[PLAIN],
    }
    if has_environment("mosec"):
        systems["mosec"] = SYSTEMS[MOSEC]
    cores = sorted(os.sched_getaffinity(0))
    seen: dict[str, float] = {}
    for name, start in systems.items():
        folder = scratch / name
        folder.mkdir()
        with suppress(EnvironmentFailed, NotStarted), start(folder, models) as running:
            for count in (1, 2):
                _pin([os.getpid(), *running.pids], cores[:count])
                run_wrk(running.url, running.body, 8, pace.warm_up_seconds)
                figures = run_wrk(running.url, running.body, CONNECTIONS, pace.seconds)
                seen[f"cores.{name}_on_{count}_per_second"] = figures.requests_per_second
    return seen


def _pin(roots: Iterable[int], cores: Iterable[int]) -> None:
    """Let the threads of these processes and of all their descendants run on these cores only."""
    cores = list(cores)
    for pid in tree(roots):
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            # A thread may have ended meanwhile.
            with suppress(OSError):
                os.sched_setaffinity(int(thread.name), cores)
