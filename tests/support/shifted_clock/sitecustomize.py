"""On PYTHONPATH, Python imports this when it starts: the wall clock is then off by CLOCK_SHIFT_SECONDS."""

import os
import time

shift_seconds = float(os.environ.get("CLOCK_SHIFT_SECONDS", "0"))
true_time = time.time
time.time = lambda: true_time() + shift_seconds
