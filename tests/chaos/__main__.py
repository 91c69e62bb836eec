"""`make chaos`: plays the fault matrix and the random run, prints the measurements, writes docs/fault-matrix.md."""

import argparse
import os
import random
import sys

import pytest

from tests.chaos.conftest import MATRIX, PART, WHOLE
from tests.support.processes import REPOSITORY

JOBS = 30_000

DOCUMENT = REPOSITORY / "docs" / "fault-matrix.md"


def main() -> int:
    """Run pytest as the command line asks, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults come at random (%(default)g)")
    parser.add_argument("--seed", type=int, action="append", help="of what is random; one is made up and printed")
    parser.add_argument("--only-random", action="store_true", help="the random run alone, once for each --seed")
    parser.add_argument("--jobs", type=int, help=f"the row of very many jobs alone, with so many ({JOBS:,} otherwise)")
    asked, more = parser.parse_known_args()
    seeds = asked.seed or [random.randrange(2**32)]
    os.environ[WHOLE] = "1"
    os.environ["CHAOS_SECONDS"], os.environ["CHAOS_SEEDS"] = f"{asked.seconds:g}", " ".join(map(str, seeds))
    os.environ["CHAOS_JOBS"] = str(asked.jobs or JOBS)
    rows = ["tests/chaos"]
    if asked.only_random or asked.jobs:
        rows = ["tests/chaos/test_random.py"] * asked.only_random + ["tests/chaos/test_many_jobs.py"] * bool(asked.jobs)
        os.environ[PART] = "1"
    if not more:
        os.environ[MATRIX] = str(DOCUMENT)
    print(f"The random run again: make chaos SECONDS={asked.seconds:g} SEED={seeds[0]} ARGS=--only-random")
    return int(pytest.main([*rows, "-p", "no:cacheprovider", "-s", *more]))


if __name__ == "__main__":
    sys.exit(main())
