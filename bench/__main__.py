"""`make bench`: measures this project and its peers one after another on the same two cores, and reports ratios."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path

from bench.comparison import compare, progress
from bench.load import require_wrk
from bench.measures import MEASURES
from bench.pace import FULL, SHORT, Pace
from bench.plot import svg
from bench.report import markdown
from bench.results import Results
from bench.systems import SYSTEMS, WITHOUT_INSTALLS, install
from scripts.environment import EnvironmentFailed
from training.command import main as train

CORES = 2
SYSTEMS_PART = "systems"


def run(results: Results, pace: Pace, systems: list[str], parts: list[str]) -> None:
    """Measure and add to the results."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        models = Path(scratch) / "models"
        # Standard output is for the report.
        with contextlib.redirect_stdout(sys.stderr):
            trained = train(["--store", str(models)]) == 0
        if not trained:
            sys.exit("headrace: no model to measure with")
        for round_ in range(pace.rounds if SYSTEMS_PART in parts else 0):
            progress(f"round {round_ + 1} of {pace.rounds}")
            compare(results, systems, pace, Path(scratch), models)
        for round_ in range(pace.measure_rounds):
            for name in (part for part in parts if part in MEASURES):
                folder = Path(scratch) / f"{name}{round_}"
                folder.mkdir()
                seen = MEASURES[name](folder, models, pace)
                results.add(seen)
                progress(", ".join(f"{key} {value:,.5g}" for key, value in seen.items()))


def _install(results: Results, systems: list[str]) -> None:
    """Make the peers' environments before the first measurement."""
    for name in systems:
        try:
            install(name)
        except EnvironmentFailed as error:
            results.absent[name] = str(error)
            progress(f"{name} is absent: {error}")


def main() -> None:
    """Measure, print, and write results.json, report.md and latency.svg."""
    parts = [SYSTEMS_PART, *MEASURES]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="two minutes, without peers that need an installation")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="default: all")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), metavar="NAME", help=", ".join(SYSTEMS))
    parser.add_argument("--rounds", type=int, help="of all that is measured")
    parser.add_argument("--add", action="store_true", help="add to what is in the output folder already")
    parser.add_argument("--output", type=Path, default=Path(".bench/results"), help="default: %(default)s")
    options = parser.parse_args()
    require_wrk()
    # End as with Ctrl-C: the systems are stopped, and no process remains.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Every system and the load inherit this: all share the same cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    file = options.output / "results.json"
    results = Results.read(file) if options.add else Results()
    pace = SHORT if options.short else FULL
    if options.rounds:
        pace = pace.with_rounds(options.rounds)
    systems = options.systems or list(WITHOUT_INSTALLS if options.short else SYSTEMS)
    _install(results, systems)
    try:
        run(results, pace, systems, options.parts)
    finally:
        # Measurements from before a failure are written too.
        results.write(file)
    (options.output / "report.md").write_text(markdown(results))
    (options.output / "latency.svg").write_text(svg(results))
    print(markdown(results), end="")
    progress(f"written: {options.output}")


if __name__ == "__main__":
    main()
