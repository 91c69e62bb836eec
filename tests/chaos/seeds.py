"""Seeds of random rows. A row is named by its seed, so that it can be played again."""

import os
import random

# Processes that share the tests of one run must use the same names.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID")

SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "").split()] or [random.Random(_RUN).randrange(2**32)]
