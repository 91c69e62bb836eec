"""`make chaos`: plays the fault matrix and the random run, prints what was measured, writes docs/fault-matrix.md."""

import argparse
import os
import random
import sys

import pytest

from tests.chaos.conftest import MATRIX, WHOLE
from tests.support.processes import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "fault-matrix.md"


def main() -> int:
    """Run pytest with what it needs to know; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults come at random (%(default)g)")
    parser.add_argument("--seed", type=int, help="of the random run; one is made up and printed")
    parser.add_argument("--only-random", action="store_true", help="leave the matrix out, and its document as it is")
    asked, more = parser.parse_known_args()
    seed = random.randrange(2**32) if asked.seed is None else asked.seed
    os.environ[WHOLE] = "1"
    os.environ["CHAOS_SECONDS"], os.environ["CHAOS_SEED"] = f"{asked.seconds:g}", str(seed)
    print(f"seed {seed}; the random run again: make chaos SECONDS={asked.seconds:g} SEED={seed} ARGS=--only-random")
    rows = "tests/chaos"
    if asked.only_random:
        rows = "tests/chaos/test_random.py"
    elif not more:
        # A part of the matrix is not written over the whole.
        os.environ[MATRIX] = str(DOCUMENT)
    return int(pytest.main([rows, "-p", "no:cacheprovider", "-s", *more]))


if __name__ == "__main__":
    sys.exit(main())
