"""Limits of the load generators: against a server that does nothing (`bench.trivial`), on the same cores.

The open-loop generator reaches a rate if it gets 99 % of the answers with a p99 below 5 ms.
"""

import socket
import sys
from pathlib import Path

from bench.load import run_open_loop, run_wrk
from bench.pace import Pace
from bench.systems import ONE_ROW
from tests.support.processes import Process, free_port, wait_for

RATES = (4000, 8000, 12000, 16000, 20000, 24000, 28000)
P99_SECONDS_MAX = 0.005


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return the requests per second of wrk, and the open-loop generator's greatest rate and latency at 1,000/s."""
    port = free_port()
    server = Process("trivial", [sys.executable, "-m", "bench.trivial", str(port)], {}, scratch)
    server.start()
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for("the trivial server answers", lambda: _listens(port), 10)
        closed = run_wrk(url, ONE_ROW, 64, pace.seconds)
        idle = run_open_loop(url, ONE_ROW, 1000, pace.open_seconds, scratch)
        held = 0.0
        for rate in RATES[:: pace.rate_step]:
            seen = run_open_loop(url, ONE_ROW, rate, pace.open_seconds, scratch)
            if seen.errors or seen.answered < 0.99 * rate or seen.p99_seconds > P99_SECONDS_MAX:
                break
            held = rate
    finally:
        server.stop()
    return {
        "generator.wrk_per_second": closed.requests_per_second,
        "generator.open_loop_held_per_second": held,
        "generator.open_loop_p50_seconds": idle.p50_seconds,
        "generator.open_loop_p99_seconds": idle.p99_seconds,
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
