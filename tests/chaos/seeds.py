"""What is random is so by a seed, which its row is named by, so that it can be played again."""

import os
import random

# Processes that share the tests of one run must agree on what these are called.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID")

SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "").split()] or [random.Random(_RUN).randrange(2**32)]
