"""Interactive latency while bulk saturates the workers: 100 predictions a second, idle, then beside queued jobs.

The jobs, of 1,000 rows each, are submitted while no worker runs, so that submitting them takes no time from the gateway
while latency is measured. If the backlog ends too early, the measure is refused, because it would flatter.
"""

from pathlib import Path

from bench.load import run_open_loop, run_wrk
from bench.measures.rows import BODY
from bench.pace import Pace
from bench.systems import ONE_ROW
from shared.queue import keys
from tests.support.stack import Stack

RATE = 100


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return the p95 in seconds, idle and beside bulk."""
    folder = scratch / "fairness"
    folder.mkdir()
    stack = Stack(folder, models, JOBS_OPEN_MAX="10000000")
    seconds = 2 * pace.open_seconds
    try:
        stack.start()
        run_wrk(f"{stack.url}/predict", ONE_ROW, 8, pace.warm_up_seconds)
        idle = run_open_loop(f"{stack.url}/predict", ONE_ROW, RATE, seconds, folder)
        stack.workers[0].stop()
        run_wrk(f"{stack.url}/jobs", BODY, 4, 2 * pace.backlog_seconds)
        stack.workers[0].start()
        stack.wait_ready()
        before = _open_jobs(stack)
        busy = run_open_loop(f"{stack.url}/predict", ONE_ROW, RATE, seconds, folder)
        left = _open_jobs(stack)
        assert left, "the bulk load was over before the measurement"
        assert left < before, "no bulk job ended beside interactive load"
    finally:
        stack.close()
    assert not idle.errors + busy.errors, "interactive requests failed"
    return {
        "fairness.idle_p95_seconds": idle.p95_seconds,
        "fairness.busy_p95_seconds": busy.p95_seconds,
        "fairness.bulk_rows_per_second": 1000 * (before - left) / seconds,
    }


def _open_jobs(stack: Stack) -> int:
    return int(stack.redis.zcard(keys.JOBS_OPEN))
