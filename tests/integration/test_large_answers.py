"""Answers of megabytes, and callers who do not read them: each is bounded, and so are all together."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from headrace import export
from headrace.models.store import ModelStore
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.stack import Stack

CLASSES = 200
ANSWER_MAX_BYTES = 8_000_000
AT_ONCE = 3
"""Answers of this size that the gateway makes or sends at a time."""

CALLERS = 8


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    models = tmp_path_factory.mktemp("models")
    rows = np.random.default_rng(0).normal(size=(CLASSES * 3, 2))
    labels = np.array([f"class {at}" for at in range(CLASSES)] * 3)
    export(
        GaussianNB().fit(rows, labels), rows, store=ModelStore(models), name="wide", feature_names=["x", "y"], scores={}
    )
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        models,
        DEFAULT_MODEL="wide",
        ANSWER_MAX_BYTES=str(ANSWER_MAX_BYTES),
        ANSWERS_MAX_BYTES=str(AT_ONCE * ANSWER_MAX_BYTES),
        PREDICT_DEADLINE_SECONDS="20",
    )
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture(scope="module")
def instances(stack: Stack) -> list[dict[str, float]]:
    """The most rows that one request may have."""
    _, many = stack.http.get("/openapi.json").json()["components"]["schemas"]["Rows"]["oneOf"]
    return [{"x": at / 100, "y": 1.0} for at in range(many["properties"]["instances"]["maxItems"])]


def unread(stack: Stack, request: bytes) -> list[int]:
    """Return the statuses of callers who send the same request and read nothing but the status of the answer."""
    address = urlsplit(stack.url)
    statuses = []
    with ExitStack() as connections:
        callers = []
        for _ in range(CALLERS):
            caller = connections.enter_context(socket.socket())
            caller.settimeout(30)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect((address.hostname, address.port))
            caller.sendall(request)
            callers.append(caller)
        for caller in callers:
            statuses.append(int(caller.recv(12).split()[1]))
        assert stack.status("/livez") == 200
        assert stack.predict({"x": 1.0, "y": 1.0}).status_code == 200, "small answers are not counted"
    return statuses


def refused(stack: Stack) -> float:
    return Scrape(f"{stack.url}/metrics").total("inference_rejections_total", reason="answers_full")


def post(path: str, content: Any) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_request_has_no_more_rows_than_an_answer_has_room_for(
    stack: Stack, instances: list[dict[str, float]]
) -> None:
    assert 500 < len(instances) < ANSWER_MAX_BYTES / CLASSES / 20
    answer = stack.predict(instances)
    assert answer.status_code == 200
    assert ANSWER_MAX_BYTES / 4 < len(answer.content) <= ANSWER_MAX_BYTES
    assert len(answer.json()["probabilities"]) == len(answer.json()["predictions"]) == len(instances)
    for path in ("/predict", "/jobs"):
        more = stack.http.post(path, json={"instances": [*instances, instances[0]]})
        assert more.status_code == 422
        assert [each["pointer"] for each in more.json()["errors"]] == ["/instances"]


def test_predictions_that_nobody_reads_have_a_limit(stack: Stack, instances: list[dict[str, float]]) -> None:
    before = refused(stack)
    statuses = unread(stack, post("/predict", {"instances": instances}))

    assert sorted(set(statuses)) == [200, 503]
    assert statuses.count(200) <= AT_ONCE
    assert refused(stack) - before == statuses.count(503)
    wait_for("there is room again", lambda: stack.predict(instances).status_code == 200)


def test_results_of_jobs_that_nobody_reads_have_the_same_limit(stack: Stack, instances: list[dict[str, float]]) -> None:
    job_id = stack.submit(instances)
    assert stack.outcome(job_id)["status"] == "succeeded"
    request = f"GET /jobs/{job_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    # On a busy machine Redis may hand out none of them in time.
    wait_for("answers, and refusals", lambda: set(unread(stack, request)) == {200, 503})
    wait_for("there is room again", lambda: stack.status(f"/jobs/{job_id}") == 200)
    assert len(stack.job(job_id)["result"]["predictions"]) == len(instances)
