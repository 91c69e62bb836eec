"""Load on a running system: wrk as fast as the system answers, or `bench.open_loop` at a constant rate."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from bench.open_loop import CONNECTIONS, OpenFigures

SCRIPT = Path(__file__).with_name("post.lua")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class ClosedFigures(BaseModel):
    """The result of one run of wrk; times in seconds."""

    requests_per_second: float
    p50_seconds: float
    p99_seconds: float
    errors: int


def require_wrk() -> None:
    """End the program with the reason if wrk is not installed."""
    if shutil.which("wrk") is None:
        sys.exit("headrace: wrk is not installed, and the bench needs it (Debian: apt install wrk)")


def run_wrk(
    url: str, body: bytes, connections: int, seconds: int, headers: Mapping[str, str] | None = None
) -> ClosedFigures:
    """Post the body repeatedly over keep-alive connections, each time the last answer has arrived.

    Raises:
        subprocess.CalledProcessError: If wrk fails.
    """
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", str(SCRIPT)]
    lines = "\n".join(f"{name}: {value}" for name, value in (headers or {}).items())
    with tempfile.NamedTemporaryFile(prefix="headrace-bench-") as file:
        file.write(body)
        file.flush()
        environment = {**os.environ, "BENCH_BODY": file.name, "BENCH_HEADERS": lines}
        out = subprocess.run(["wrk", *options, url], env=environment, capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    errors = int(bad[1]) if bad else 0
    errors += sum(map(int, socket_errors.groups())) if socket_errors else 0
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate, out
    return ClosedFigures(
        requests_per_second=float(rate[1]),
        p50_seconds=_percentile(out, 50),
        p99_seconds=_percentile(out, 99),
        errors=errors,
    )


def run_open_loop(
    url: str, body: bytes, rate: float, seconds: float, folder: Path, connections: int = CONNECTIONS
) -> OpenFigures:
    """Post the body at a constant rate from a process of its own.

    Raises:
        subprocess.CalledProcessError: If the generator fails, for example because no server listens.
    """
    file = folder / "body.json"
    file.write_bytes(body)
    command = [sys.executable, "-m", "bench.open_loop", url, str(rate), str(seconds), str(file)]
    command += ["--connections", str(connections)]
    return OpenFigures.model_validate_json(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _percentile(out: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", out, re.MULTILINE)
    assert found, out
    return float(found[1]) * _SECONDS[found[2]]
