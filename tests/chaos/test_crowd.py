"""Ten thousand connections at once, idle or waiting: the gateway's memory is bounded, and other callers are served."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from gateway.web.slow_clients import raise_file_limit
from tests.chaos.conftest import WHOLE, Measure
from tests.support.crowd import crowd
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.puppet import Act
from tests.support.requirements import require
from tests.support.stack import Stack

MANY = 10_000 if os.environ.get(WHOLE) == "1" else 500
"""Number of connections in the crowd."""

OTHERS = 200
"""Number of connections beside the crowd's."""

BYTES_EACH_MAX = 64_000
SERVED_SECONDS = 5.0
ANSWER = {"value": 1, "act": int(Act.ANSWER)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[Stack]:
    raise_file_limit(MANY + OTHERS)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    require(soft > MANY + OTHERS, f"{MANY:,} connections need more open files than {soft:,}")
    stack = Stack(
        tmp_path_factory.mktemp("crowd"),
        puppet_models,
        DEFAULT_MODEL="puppet",
        CONNECTIONS_MAX=str(MANY + OTHERS),
        # A busy machine needs longer to make all connections than they may be silent.
        HEAD_RECEIVE_SECONDS="300",
        WORKER_DRAIN_SECONDS="0.5",
    )
    try:
        yield stack.start()
    finally:
        stack.close()


def resident_bytes(stack: Stack) -> int:
    status = Path(f"/proc/{stack.gateway.pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def waiting_rows(stack: Stack) -> float:
    return Scrape(f"{stack.url}/metrics").total("inference_waiting_rows")


def slowest_prediction(stack: Stack) -> float:
    """Return the seconds of the slowest of a few calls, all of which are answered."""
    slowest = 0.0
    for _ in range(20):
        sent = time.monotonic()
        response = stack.predict(ANSWER, params={"deadline": SERVED_SECONDS})
        assert response.status_code == 200, response.text
        slowest = max(slowest, time.monotonic() - sent)
    return slowest


@pytest.mark.timeout(300)
@pytest.mark.fault(f"{MANY:,} idle connections", "bounded memory, calls are answered", within=SERVED_SECONDS)
def test_idle(stack: Stack, measure: Measure) -> None:
    before = resident_bytes(stack)
    with crowd(stack.url) as idle:
        idle.join(MANY)
        measure(slowest_prediction(stack))
        assert resident_bytes(stack) - before < MANY * BYTES_EACH_MAX
        # The connections beyond the limit get 503. How many other connections are open is unknown here.
        idle.join(OTHERS)
        assert set(idle.answers(1, 10)) == {503}
    wait_for("there is room again", lambda: stack.status("/livez") == 200)


@pytest.mark.timeout(300)
@pytest.mark.fault(
    f"{MANY:,} callers wait for one job", "bounded memory, calls are answered, all get the outcome", within=30
)
def test_waiting_for_a_job(stack: Stack, measure: Measure) -> None:
    before = resident_bytes(stack)
    # One child computes a job that does not end in time; the other is kept free for predictions.
    job_id = stack.submit({"value": 25, "act": int(Act.SLEEP)})
    with crowd(stack.url) as waiting:
        waiting.join(MANY, f"GET /jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
        assert slowest_prediction(stack) < SERVED_SECONDS
        assert resident_bytes(stack) - before < MANY * BYTES_EACH_MAX
        ended = time.monotonic()
        # The job may have ended already if making the connections took long.
        if stack.job(job_id)["status"] == "running":
            assert stack.http.delete(f"/jobs/{job_id}").status_code == 200
        assert waiting.answers(MANY, 60) == {200: MANY}
        measure(time.monotonic() - ended)


@pytest.mark.whole_chaos
@pytest.mark.timeout(300)
@pytest.mark.fault(
    f"{MANY:,} callers wait for a prediction, and leave", "bounded memory, their rows leave the queue", within=10
)
def test_waiting_for_a_worker(stack: Stack, measure: Measure) -> None:
    stack.workers[0].stop()
    wait_for("nobody works", lambda: stack.http.get("/health").json()["workers"]["slots"] == 0)
    before = resident_bytes(stack)
    body = b'{"value":1,"act":0}'
    head = "POST /predict?deadline=60 HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    with crowd(stack.url) as waiting:
        waiting.join(MANY, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for("all wait", lambda: waiting_rows(stack) == MANY)
        assert resident_bytes(stack) - before < MANY * BYTES_EACH_MAX
    left = time.monotonic()

    def gone() -> bool:
        with suppress(httpx.TransportError):
            return waiting_rows(stack) == 0
        return False

    wait_for("their rows are gone", gone)
    measure(time.monotonic() - left)
    stack.workers[0].start()
    stack.wait_ready()
    assert stack.predict(ANSWER).status_code == 200
