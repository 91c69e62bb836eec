"""`make fuzz`: the fuzzing of `make test` with many more and different examples, and then atheris."""

import argparse
import importlib.util
import os
import random
import subprocess
import sys

import pytest

from tests.support.fuzz_options import EXAMPLES, FACTOR, SEED
from tests.support.processes import REPOSITORY

PARSERS = ("bodies", "entries", "manifests")
CORPUS = REPOSITORY / ".fuzz"
MADE_UP = [
    "tests/unit/gateway/catalog/test_any_body.py",
    "tests/unit/gateway/rpc/test_any_message.py",
    "tests/unit/shared/queue/test_any_message.py",
    "tests/unit/worker/consumer/test_any_entry.py",
    "tests/unit/worker/execution/test_splits.py",
]


def main() -> int:
    """Run all three; return 0 if no failure was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="of each operation and phase (%(default)s)")
    parser.add_argument("--factor", type=int, default=10, help="so many times the examples of the codecs (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="for atheris, over all parsers (%(default)s)")
    parser.add_argument("--seed", type=int, help="for the requests; one is made up and printed")
    asked = parser.parse_args()
    seed = random.randrange(2**32) if asked.seed is None else asked.seed
    print(
        f"seed {seed}; the same requests again: make fuzz ARGS='--examples {asked.examples} --seed {seed}'", flush=True
    )
    os.environ |= {EXAMPLES: str(asked.examples), SEED: str(seed), FACTOR: str(asked.factor)}
    requests = pytest.main(["tests/fuzz", *MADE_UP, "-p", "no:cacheprovider", "-s", "--timeout", "3600"])
    return int(requests != pytest.ExitCode.OK) or hunt(asked.seconds)


def hunt(seconds: int) -> int:
    """Let atheris search for bytes that break a parser; return 0 if it finds none or is not installed."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed, so no parser was hunted: pip install atheris")
        return 0
    return sum(
        subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.parsers", name, str(CORPUS / name)),
                f"-max_total_time={max(1, seconds // len(PARSERS))}",
                "-verbosity=0",
                "-print_final_stats=1",
            ],
            cwd=REPOSITORY,
            check=False,
        ).returncode
        != 0
        for name in PARSERS
    )


if __name__ == "__main__":
    sys.exit(main())
