"""Three times the workers' capacity, offered at a constant rate: the answers during the overload and afterwards.

The model sleeps for each row, so the workers' capacity is given and no load generator reduces it: on two cores a model
that computes would lose to the generator. The cost of refusing in the gateway is included. Latencies count from the
time at which a request was due. The service has recovered at the end of the first half second after the overload's last
request in which a tenth of the peak was all answered, at a p95 below 1.5 times the one before.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import orjson

from bench.load import run_open_loop, run_wrk
from bench.open_loop import Generator, OpenFigures
from bench.pace import Pace
from headrace import export
from headrace.models.store import ModelStore
from tests.support.puppet import Act, Puppet
from tests.support.stack import Stack

ROW_SECONDS = 0.0025
DEADLINE_SECONDS = 1.0
PEAK_CONNECTIONS = 64
TIMES_PEAK = 3
CONNECTIONS = 2000
"""More than ever wait: at most the peak of one deadline is admitted."""

PROBE_SHARE, PROBE_SECONDS = 0.1, 0.5
RECOVERY_SECONDS_MAX = 10.0
IDLE_AGAIN = 1.5


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return rates per second and times in seconds; `recovery_seconds` is inf if it took more than 10 s."""
    folder = scratch / "overload"
    folder.mkdir()
    store = folder / "models"
    _export(store)
    stack = Stack(folder, store, DEFAULT_MODEL="puppet", PREDICT_DEADLINE_SECONDS=f"{DEADLINE_SECONDS:g}")
    body = orjson.dumps({"value": ROW_SECONDS, "act": Act.SLEEP})
    url = f"{stack.url}/predict"
    try:
        stack.start()
        run_wrk(url, body, PEAK_CONNECTIONS, pace.warm_up_seconds)
        peak = run_wrk(url, body, PEAK_CONNECTIONS, 2 * pace.seconds)
        assert not peak.errors, f"{peak.errors} requests failed before there was any overload"
        rate = peak.requests_per_second
        idle = run_open_loop(url, body, PROBE_SHARE * rate, 2 * pace.open_seconds, folder)
        with ThreadPoolExecutor(1) as pool:
            offered = TIMES_PEAK * rate
            running = pool.submit(run_open_loop, url, body, offered, pace.overload_seconds, folder, CONNECTIONS)
            # Not before the end is near: the requests that test the recovery come on top of the load.
            time.sleep(pace.overload_seconds)
            windows = _watch(url, body, rate, IDLE_AGAIN * idle.p95_seconds, running)
            seen = running.result()
    finally:
        stack.close()
    recovered = [ended for began, ended, good in windows if good and began >= seen.ended_at]
    return {
        "overload.peak_per_second": rate,
        "overload.offered_per_second": offered,
        "overload.goodput_per_second": seen.answered,
        "overload.admitted_p99_seconds": seen.p99_seconds,
        "overload.deadline_seconds": DEADLINE_SECONDS,
        "overload.rejected_share": seen.rejected / (offered * pace.overload_seconds),
        "overload.rejected_p99_seconds": seen.rejected_p99_seconds,
        "overload.neither_share": (seen.errors - seen.rejected) / (offered * pace.overload_seconds),
        "overload.generator_late_p99_seconds": seen.late_p99_seconds,
        "overload.idle_p95_seconds": idle.p95_seconds,
        "overload.recovery_seconds": recovered[0] - seen.ended_at if recovered else float("inf"),
    }


Window = tuple[float, float, bool]
"""Begin and end of half a second of load, and True if all was as before."""


def _watch(url: str, body: bytes, rate: float, p95_seconds: float, overload: "Future[OpenFigures]") -> list[Window]:
    """Send half seconds of load until all is as before, or for too long."""
    windows: list[Window] = []
    give_up = time.time() + RECOVERY_SECONDS_MAX
    with closing(Generator(url, body)) as probe:
        while time.time() < give_up:
            over, began = overload.done(), time.time()
            seen = probe.run(PROBE_SHARE * rate, PROBE_SECONDS)
            windows.append((began, time.time(), not seen.errors and seen.p95_seconds <= p95_seconds))
            if over and windows[-1][2]:
                break
    return windows


def _export(store: Path) -> None:
    rows = np.array([[-1.0, Act.ANSWER], [1.0, Act.ANSWER]] * 5)
    export(
        Puppet().fit(rows, np.array(["low", "high"] * 5)),
        rows,
        store=ModelStore(store),
        name="puppet",
        feature_names=["value", "act"],
        scores={},
        extra_modules=["tests"],
    )
