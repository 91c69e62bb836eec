"""Three times the capacity of the workers.

Requests that can be answered in time are, and the others are refused at once.
"""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.coroutines import run, until
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.puppet import Act
from tests.support.stack import Stack

ROW_SECONDS = 0.05
SECONDS = 3.0
DEADLINE_SECONDS = 1.0
SLOW = {"value": ROW_SECONDS, "act": int(Act.SLEEP)}


@dataclass
class Answer:
    """The answer to a caller, and the seconds until it came."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]
    seconds: float


async def ask(stack: Stack, rows: int, deadline_seconds: float) -> Answer:
    """Send POST /predict over a connection of its own; an HTTP client would itself be overloaded here."""
    address = urlsplit(stack.url)
    body = json.dumps({"instances": [SLOW] * rows}).encode()
    head = f"POST /predict?deadline={deadline_seconds:g} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    sent = time.monotonic()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode() + body)
    received = await reader.read()
    seconds = time.monotonic() - sent
    writer.close()
    lines, _, content = received.partition(b"\r\n\r\n")
    first, *more = lines.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in more)}
    return Answer(int(first.split()[1]), headers, json.loads(content), seconds)


async def offer(stack: Stack, per_second: float, seconds: float) -> list[Answer]:
    """Send requests at a constant rate, whatever the answers are."""
    started, asking = time.monotonic(), []
    for at in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, started + at / per_second - time.monotonic()))
        asking.append(asyncio.create_task(ask(stack, 1, DEADLINE_SECONDS)))
    return list(await asyncio.gather(*asking))


@pytest.fixture(scope="module")
def overloaded(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("overload"), puppet_models, DEFAULT_MODEL="puppet")
    try:
        stack.start()
        # The first batch is of any size, because no cost is known yet.
        assert stack.predict(SLOW).status_code == 200
        yield stack
    finally:
        stack.close()


def test_three_times_too_much(overloaded: Stack) -> None:
    capacity, before = overloaded.concurrency / ROW_SECONDS, rejections(overloaded)

    answers = run(offer(overloaded, 3 * capacity, SECONDS), 30)

    counts = Counter(each.status for each in answers)
    assert set(counts) <= {200, 503, 504}, counts
    assert counts[504] < 0.1 * len(answers), counts
    # A busy machine takes longer than the model sleeps.
    assert counts[200] > 0.3 * capacity * SECONDS, counts
    refused = [each for each in answers if each.status == 503]
    assert len(refused) > 0.3 * len(answers), counts
    for each in refused:
        assert each.headers["content-type"] == "application/problem+json"
        assert each.body["type"] == "urn:headrace:problem:overloaded"
    waits = {int(each.headers["retry-after"]) for each in refused}
    assert min(waits) >= 1
    assert len(waits) > 1, "they would all come back at once"
    assert median(each.seconds for each in refused) < DEADLINE_SECONDS / 2, "they are refused at once"
    assert rejections(overloaded) - before == len(refused)

    after = overloaded.predict(SLOW, params={"deadline": DEADLINE_SECONDS})
    assert after.status_code == 200, "nobody waits any more"


def test_a_request_with_more_rows_than_there_is_time_for(overloaded: Stack) -> None:
    """While other rows wait it is refused at once, and a small request is served; alone it is tried."""

    async def scenario() -> None:
        large = asyncio.create_task(ask(overloaded, 200, 30.0))
        await until("some of it has left, and most waits", lambda: 0 < waiting_rows(overloaded) < 190)
        refused = await ask(overloaded, 2000, 10.0)
        assert (refused.status, refused.body["type"]) == (503, "urn:headrace:problem:overloaded")
        small = await ask(overloaded, 1, 10.0)
        assert small.status == 200, "it goes before the rest of a large one"
        assert not large.done()
        assert (await large).status == 200

    run(scenario(), 60)


def test_rows_of_callers_who_left_are_not_computed(overloaded: Stack) -> None:
    address = urlsplit(overloaded.url)
    body = json.dumps({"instances": [SLOW] * 10}).encode()
    head = b"POST /predict?deadline=60 HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    callers = [socket.create_connection((address.hostname or "", address.port or 0)) for _ in range(100)]
    try:
        for caller in callers:
            caller.sendall(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        wait_for("they all wait", lambda: waiting_rows(overloaded) > 900)
    finally:
        for caller in callers:
            caller.close()
    # 25 seconds of work. What is in a batch already is computed.
    wait_for("nothing of them is left", lambda: waiting_rows(overloaded) == 0)
    assert overloaded.predict(SLOW, params={"deadline": 5}).status_code == 200


def rejections(stack: Stack) -> float:
    return Scrape(f"{stack.url}/metrics").total("inference_rejections_total", reason="overloaded")


def waiting_rows(stack: Stack) -> float:
    return Scrape(f"{stack.url}/metrics").total("inference_waiting_rows")
