"""Load from wrk, and what it reports."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("one_row.lua")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Figures:
    """What one run of wrk saw; times in seconds."""

    requests_per_second: float
    p50_seconds: float
    p99_seconds: float
    errors: int


def run_wrk(url: str, connections: int, seconds: int) -> Figures:
    """POST one row again and again over so many connections.

    Raises:
        subprocess.CalledProcessError: if wrk fails.
    """
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "10s",
        "-s",
        str(SCRIPT),
        url,
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    errors = int(bad[1]) if bad else 0
    errors += sum(map(int, socket_errors.groups())) if socket_errors else 0
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate, out
    return Figures(float(rate[1]), _percentile(out, 50), _percentile(out, 99), errors)


def _percentile(out: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", out, re.MULTILINE)
    assert found, out
    return float(found[1]) * _SECONDS[found[2]]
