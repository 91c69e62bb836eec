"""`python -m demo` against a running stack: every kind of traffic arrives, and Ctrl-C sums up."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from demo import traffic
from tests.chaos.arena import freeze, thaw
from tests.support.exposition import Scrape
from tests.support.processes import Process, python, wait_for
from tests.support.stack import Stack

NOWHERE = "http://127.0.0.1:1"
# The first burst comes after 5 s: on a busy machine, continuous bursts would leave no room for the other calls.
OPTIONS = ["--seconds", "0", "--rate", "40", "--errors", "0.4", "--jobs", "0.3", "--drift-after", "0", "--bursts", "10"]

REQUESTS = {
    "answered": {"model": "iris", "lane": "interactive", "outcome": "ok"},
    "invalid": {"model": "iris", "lane": "interactive", "outcome": "invalid"},
    "too late": {"model": "iris", "lane": "interactive", "outcome": "timeout"},
    "unknown": {"model": "unknown", "lane": "interactive", "outcome": "invalid"},
    "jobs": {"model": "iris", "lane": "bulk", "outcome": "ok"},
}


@pytest.fixture
def demo(stack: Stack, tmp_path: Path) -> Iterator[Process]:
    links = ["--prometheus", NOWHERE, "--grafana", NOWHERE]
    process = Process("demo", [*python("demo"), "--url", stack.url, *links, *OPTIONS], {}, tmp_path)
    yield process
    process.kill()


def test_every_kind_of_traffic_arrives(stack: Stack, demo: Process) -> None:
    def count(name: str, **labels: str) -> float:
        try:
            return Scrape(f"{stack.url}/metrics").total(name, **labels)
        except KeyError:
            return 0.0

    def counts() -> dict[str, float]:
        return {
            **{name: count("inference_requests_total", **labels) for name, labels in REQUESTS.items()},
            "succeeded": count("inference_jobs_ended_total", outcome="succeeded"),
            "not JSON": count("inference_http_requests_total", route="/predict", status="400"),
        }

    def rows() -> float:
        return Scrape(*(f"http://127.0.0.1:{port}/metrics" for port in stack.metrics_ports)).total(
            "inference_predictions_total", outcome="ok"
        )

    def grown(name: str, count_before: float) -> bool:
        return counts()[name] > count_before

    def cancelled() -> float:
        return count("inference_jobs_ended_total", outcome="cancelled")

    before, broken, rows_before = counts(), count("inference_http_requests_total", status="500"), rows()
    demo.start()
    for name, count_before in before.items():
        wait_for(name, partial(grown, name, count_before))
    wait_for("a burst", lambda: rows() > rows_before + 10_000)
    # A job that has begun is not cancelled, and the workers may begin each of them before the demo cancels it.
    cancelled_before = cancelled()
    for worker in stack.workers:
        freeze(worker)
    try:
        wait_for("a cancelled job", lambda: cancelled() > cancelled_before)
    finally:
        for worker in stack.workers:
            thaw(worker)
    demo.signal(signal.SIGINT)
    wait_for("the end", lambda: not demo.running)

    assert demo.stop() == 0
    assert "Traceback" not in demo.log()
    assert "drifts: its PSI rises" in demo.log()
    assert "/s p50 " in demo.log()
    summary = demo.log().rpartition("\n\n")[2]
    assert all(kind in summary for kind in traffic.KINDS)
    assert count("inference_http_requests_total", status="500") == broken
    wait_for("no job is left", lambda: stack.jobs()["open"] == 0)
    stack.assert_conserved()
