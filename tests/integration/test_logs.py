"""Logs of real processes during faults: every line has one form and its ids, and none has confidential values."""

import json
import signal
from pathlib import Path
from typing import Any

from tests.integration.conftest import NewStack
from tests.support.processes import Process, wait_for
from tests.support.puppet import Act

PASSWORD = "sesame-password"
SECRETS = (PASSWORD, "sesame", "31415.9265", "31415")
"""The broker's password, texts of keys, bodies and queue entries, values of rows."""

ROW = {"value": 31415.9265, "act": Act.ANSWER}
RAISING = {"value": 31415.9265, "act": Act.RAISE}
EXHAUSTING = {"value": 31415.9265, "act": Act.EXHAUST_MEMORY}


def lines(process: Process) -> list[dict[str, Any]]:
    """Return the decoded log; a line that is not JSON fails the test."""
    return [json.loads(line) for line in process.log().splitlines()]


def find(source: Process, text: str, **fields: Any) -> dict[str, Any]:
    """Return the line with this message and these fields, as soon as it is there."""

    def probe() -> dict[str, Any] | None:
        found = [line for line in lines(source) if text in line["message"]]
        return next((line for line in found if fields.items() <= line.items()), None)

    return wait_for(f"{text} {fields}", probe)


def test_logs_have_one_format_and_the_ids_and_no_secrets(new_stack: NewStack, puppet_models: Path) -> None:
    stack = new_stack(
        puppet_models,
        broker_password=PASSWORD,
        url_options="?socket_timeout=2.5&health_check_interval=2",
        DEFAULT_MODEL="puppet",
        WORKER_CONCURRENCY="1",
        LOG_FORMAT="json",
        LOG_LEVEL="DEBUG",
        OMP_NUM_THREADS="1",
    ).start()
    gateway, worker = stack.gateway, stack.workers[0]

    # A success, an error of the caller, and an error of the service.
    assert stack.predict(ROW, headers={"X-Request-ID": "good"}).status_code == 200
    assert stack.predict({"value": "sesame", "sesame": 1}).status_code == 422
    assert stack.http.post("/predict", content=b"sesame", headers={"Content-Type": "application/json"}).is_error
    assert stack.predict(EXHAUSTING, headers={"X-Request-ID": "bad"}).status_code == 500
    assert stack.predict({"value": 31415, "act": Act.DIE}, headers={"X-Request-ID": "lost"}).status_code == 503
    stack.wait_ready()
    job = stack.submit(RAISING, headers={"Idempotency-Key": "sesame"})
    assert stack.outcome(job)["status"] == "failed"
    stack.redis.lpush("interactive", "sesame")
    find(worker, "dead letter")
    stack.broker.signal(signal.SIGKILL)
    wait_for("Redis is gone", lambda: stack.status("/readyz") == 503)
    assert stack.predict(ROW, headers={"X-Request-ID": "broken"}).status_code == 503
    find(worker, "heartbeat not sent")

    assert find(gateway, "POST /predict answered 500 prediction_failed")["request_id"] == "bad"
    assert find(gateway, "POST /predict answered 503 worker_lost")["request_id"] == "lost"
    assert find(gateway, "POST /predict answered 503 broker_unavailable")["request_id"] == "broken"
    failed = find(worker, "1 rows failed as prediction_failed: the model raised MemoryError", model="puppet")
    assert failed["version"] and failed["exception"].endswith("MemoryError")
    refused = find(worker, "1 rows failed as row_rejected: the model raised ValueError because of act", job_ids=[job])
    assert refused["model"] == "puppet" and refused["exception"].endswith("ValueError")
    # Lines of other libraries have the same form.
    assert find(gateway, "Uvicorn running on", logger="uvicorn.error", process="gateway")
    assert find(worker, "Connected to", process="worker")["logger"].startswith("celery.")

    stack.start_broker()
    for process in (gateway, worker):
        process.stop()
        assert len(lines(process)) > 5
        for secret in SECRETS:
            assert secret not in process.log()
