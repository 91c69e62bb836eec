"""A gateway that is told to stop: every caller gets an answer, and it says that it is not ready meanwhile."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.web.graceful_stop import DRAIN_SECONDS
from tests.integration.conftest import NewStack
from tests.support.processes import wait_for
from tests.support.puppet import Act
from tests.support.stack import Stack

ROW = {"value": 6.0, "act": int(Act.SLEEP)}
"""A row that takes so many seconds, in which the stop begins and is looked at."""

LONG_ROW = {"value": 20.0, "act": int(Act.SLEEP)}
"""A row that outlasts the stop."""

Answer = tuple[int, dict[str, str], dict[str, Any]]


@pytest.fixture(params=["1", "2"], ids=["one process", "two processes"])
def stack(request: pytest.FixtureRequest, new_stack: NewStack, puppet_models: Path) -> Stack:
    stack = new_stack(
        puppet_models,
        DEFAULT_MODEL="puppet",
        GATEWAY_PROCESSES=request.param,
        WORKER_CONCURRENCY="3",
        WORKER_INTERACTIVE_SLOTS="2",
        WORKER_DRAIN_SECONDS="0.1",
    ).start()
    # Of two processes, both have to know the workers.
    for _ in range(20):
        wait_for("ready", lambda: ask(stack, "GET", "/readyz")[0] == 200)
    stack.wait_for_metrics()
    return stack


@contextmanager
def connected(stack: Stack) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(stack.url).netloc, timeout=60)
    try:
        connection.connect()
        yield connection
    finally:
        connection.close()


def ask(stack: Stack, method: str, path: str, row: Any = None, **headers: str) -> Answer:
    with connected(stack) as connection:
        return ask_on(connection, method, path, row, **headers)


def ask_on(connection: http.client.HTTPConnection, method: str, path: str, row: Any = None, **headers: str) -> Answer:
    body = None if row is None else json.dumps(row)
    connection.request(method, path, body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())


def test_everyone_is_answered_and_no_probe_is_told_to_send_more(stack: Stack) -> None:
    with ThreadPoolExecutor(20) as pool, ExitStack() as connections:
        kept = [connections.enter_context(connected(stack)) for _ in range(4)]
        assert [ask_on(each, "GET", "/livez")[0] for each in kept] == [200] * 4
        predicted = []
        for batches in (1, 2):
            # One after the other: together they might be one batch, which would outlast the stop.
            predicted.append(pool.submit(ask, stack, "POST", "/predict?deadline=20", ROW))
            stack.wait_computing(batches)
        job_id = stack.submit(LONG_ROW)
        polled = [pool.submit(ask, stack, "GET", f"/jobs/{job_id}?wait=60") for _ in range(4)]
        preferred = [pool.submit(ask, stack, "POST", "/predict", LONG_ROW, Prefer="wait=60") for _ in range(4)]
        wait_for("the jobs are accepted", lambda: stack.jobs()["accepted"] == 5)

        stack.gateway.signal(15)

        wait_for("not ready", lambda: ask(stack, "GET", "/readyz")[0] == 503)
        assert ask(stack, "GET", "/livez")[0] == 200
        assert ask(stack, "GET", f"/jobs/{job_id}?wait=60")[2]["status"] in ("queued", "running")
        for connection in kept:
            try:
                status, headers, _ = ask_on(connection, "GET", "/livez")
            except ConnectionError:
                # Of two processes, one that has no prediction in progress ends at once.
                assert stack.gateway.environment["GATEWAY_PROCESSES"] == "2"
            else:
                assert (status, headers["connection"]) == (200, "close")
        for status, _, view in results(polled):
            assert (status, view["status"] in ("queued", "running")) == (200, True)
        for status, headers, view in results(preferred):
            assert (status, headers["location"]) == (202, f"/jobs/{view['id']}")
        for status, headers, _ in results(predicted):
            assert (status, headers["connection"]) == (200, "close")
    wait_for("its end", lambda: not stack.gateway.running)
    assert "Traceback" not in stack.gateway.log()
    assert "ERROR" not in stack.gateway.log()


def results(futures: list["Future[Answer]"]) -> list[Answer]:
    return [future.result() for future in futures]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_with_nothing_in_progress_it_stops_at_once(new_stack: NewStack, puppet_models: Path, processes: str) -> None:
    stack = new_stack(puppet_models, workers=0, DEFAULT_MODEL="puppet", GATEWAY_PROCESSES=processes)
    stack.gateway.start()
    stack.wait_for_gateway()
    with ExitStack() as connections:
        kept = [connections.enter_context(connected(stack)) for _ in range(5)]
        assert [ask_on(each, "GET", "/livez")[0] for each in kept] == [200] * 5
        refused = connections.enter_context(connected(stack))
        assert ask_on(refused, "POST", "/predict", ROW, **{"Content-Type": "text/csv"})[0] == 415
        for _ in range(5):
            connections.enter_context(connected(stack))
        started = time.monotonic()
        stack.gateway.signal(15)
        wait_for("its end", lambda: not stack.gateway.running)
        assert time.monotonic() - started < DRAIN_SECONDS, "less than the time that requests would have"
