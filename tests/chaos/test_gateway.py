"""The gateway is stopped and killed, and its callers repeat their requests."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure
from tests.chaos.ledger import question
from tests.support.processes import wait_for

GRACE_SECONDS = 10
START_SECONDS = 10


@pytest.mark.fault(
    "SIGTERM of the gateway under load",
    "open requests are answered, jobs go on, it ends by itself",
    within=GRACE_SECONDS,
)
def test_the_gateway_is_stopped(arena: Arena, measure: Measure) -> None:
    # A caller that arrives after the listening socket has closed can't connect.
    arena.ledger.connections_may_break = True
    with arena.traffic(), ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(arena.client.predict, question(1, sleep_seconds=0.5), 2.0)
        wait_for("it is in hand", lambda: arena.stack.redis.hlen("unacked") >= 1)
        stopped = time.monotonic()
        # uvicorn raises the signal again once everything is closed.
        assert arena.stack.gateway.stop(GRACE_SECONDS + 5) == -signal.SIGTERM
        measure(time.monotonic() - stopped)
        response = in_flight.result()
        assert response is not None and response.status_code == 200
        arena.stack.gateway.start()
        arena.stack.wait_ready()


@pytest.mark.fault(
    "SIGKILL of the gateway with jobs in the queue",
    "they run; the same Idempotency-Key finds the same job",
    within=START_SECONDS,
)
def test_the_gateway_is_killed(arena: Arena, measure: Measure) -> None:
    arena.ledger.connections_may_break = True
    with arena.traffic():
        asked = question(7, sleep_seconds=0.5)
        job = arena.submit(asked, key="before the crash")
        killed = time.monotonic()
        arena.stack.gateway.kill()
        arena.stack.gateway.start()
        measure(arena.serves_again(killed, START_SECONDS))
        assert arena.submit(asked, key="before the crash") == job


@pytest.mark.fault(
    "the same Idempotency-Key 100 times at once", "one job, 100 equal answers; other rows: 422", within=5
)
def test_a_hundred_times_the_same_key(arena: Arena, measure: Measure) -> None:
    asked = question(9, sleep_seconds=0.5)
    before = arena.stack.jobs()["accepted"]
    started = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        jobs = set(pool.map(lambda _: arena.submit(asked, key="a hundred"), range(100)))
    measure(time.monotonic() - started)
    assert len(jobs) == 1
    assert arena.stack.jobs()["accepted"] == before + 1
    body = {"instances": question(10).rows}
    assert arena.stack.http.post("/jobs", json=body, headers={"Idempotency-Key": "a hundred"}).status_code == 422
    wait_for("it runs or has ended", lambda: arena.client.status(jobs.copy().pop()) != "queued")
    assert arena.submit(asked, key="a hundred") in jobs
