"""The answers that callers get during faults. tests/chaos shows that no job is lost."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.broker.celery_message import queue_entry
from shared.queue import keys
from shared.queue.celery_app import make_celery
from shared.queue.contract import Call, PredictMessage
from shared.settings import CommonSettings
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.puppet import PUPPET_FOLDER, Act
from tests.support.stack import Stack

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
ANSWER = {"value": 1, "act": Act.ANSWER}

#: A child that hangs is killed after 2 s; a killed worker's jobs come back after 7 s (lease) or 12 s (broker).
SHORT_LIMITS = {"TASK_SOFT_TIME_LIMIT_SECONDS": "1", "TASK_TIME_LIMIT_SECONDS": "2", "JOB_CHECK_SECONDS": "0.5"}


@pytest.fixture(scope="module")
def hasty_puppets(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[Stack]:
    yield from started(tmp_path_factory.mktemp("hasty"), puppet_models, **SHORT_LIMITS)


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[Stack]:
    """Yield a stack without short time limits, which a busy machine would reach."""
    yield from started(tmp_path_factory.mktemp("puppets"), puppet_models)


def started(folder: Path, models: Path, **options: str) -> Iterator[Stack]:
    settings = {"DEFAULT_MODEL": "puppet", PUPPET_FOLDER: str(folder), **options}
    stack = Stack(folder, models, **settings)  # type: ignore[arg-type]
    try:
        yield stack.start()
    finally:
        stack.close()


def test_without_a_worker_callers_get_a_problem_and_jobs_wait(new_stack: NewStack, iris_models: Path) -> None:
    stack = new_stack(iris_models, PREDICT_DEADLINE_SECONDS="1").start_without_workers()
    assert stack.status("/readyz") == 503
    assert stack.status("/livez") == 200
    assert stack.http.get("/health").json()["reason"] == "no worker is running"

    started = time.monotonic()
    response = stack.predict(SETOSA)
    assert time.monotonic() - started > 0.9
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:headrace:problem:no_worker"
    assert int(response.headers["retry-after"]) >= 1

    submitted = [stack.submit(SETOSA) for _ in range(20)]
    stack.assert_conserved()
    stack.workers[0].start()
    for job_id in submitted:
        assert stack.outcome(job_id)["status"] == "succeeded"
    stack.wait_ready()
    stack.assert_conserved()


def test_a_batch_that_outlasts_the_stop_goes_back_to_the_queue(
    new_stack: NewStack, puppet_models: Path, puppet_folder: Path
) -> None:
    options = {"DEFAULT_MODEL": "puppet", "WORKER_DRAIN_SECONDS": "0.5", PUPPET_FOLDER: str(puppet_folder)}
    stack = new_stack(puppet_models, **options).start()
    job = stack.submit({"value": 5, "act": Act.SLEEP})
    stack.wait_running(job)
    assert stack.workers[0].stop() == 0
    assert (stack.redis.llen("bulk"), stack.redis.hlen("unacked")) == (1, 0)
    stack.workers[0].start()
    # At once, and not when the lease of the first attempt is over: the entry is marked as redelivered.
    outcome = stack.outcome(job, seconds=25)
    assert (outcome["status"], outcome["attempt"]) == ("succeeded", 2)


def test_a_killed_child_costs_its_callers_an_error(hasty_puppets: Stack) -> None:
    response = hasty_puppets.predict({"value": 1, "act": Act.DIE})
    assert response.status_code == 503
    assert response.json()["type"] == "urn:headrace:problem:worker_lost"


def test_a_row_that_makes_the_model_raise_fails_alone(puppets: Stack) -> None:
    def call(row: dict[str, Any]) -> int:
        return puppets.predict(row, params={"deadline": 30}).status_code

    # Both slots are busy, so that the other rows leave together in one batch.
    rows = [{"value": 0.3, "act": Act.SLEEP}] * 2 + [ANSWER] * 3 + [{"value": 1, "act": Act.RAISE}] + [ANSWER] * 3
    with ThreadPoolExecutor(len(rows)) as pool:
        assert list(pool.map(call, rows)) == [200] * 5 + [422] + [200] * 3
    failed = puppets.predict([ANSWER, {"value": 1, "act": Act.RAISE}])
    assert failed.json()["type"] == "urn:headrace:problem:row_rejected"
    assert (failed.json()["rows"], failed.json()["count"]) == ([1], 1)
    assert failed.json()["detail"] == "the model raised ValueError"
    assert "asked to raise" not in failed.text


def test_neither_an_entry_nor_an_exit_of_the_model_ends_a_process(puppets: Stack) -> None:
    puppets.wait_ready()
    children = set(puppets.workers[0].children())
    version = puppets.predict(ANSWER).json()["version"]
    hostile = PredictMessage(
        batch=1,
        reply_to=keys.replies("nobody"),
        model="puppet",
        version=version,
        calls=[Call(2**31 - 1, 0.0, 9e9)],
        rows="",
    )
    puppets.redis.lpush("interactive", queue_entry(make_celery(CommonSettings()), hostile, "", time.time()))
    leaving = {"value": 1, "act": Act.EXIT}

    assert puppets.predict(leaving).json()["detail"] == "the model raised SystemExit"
    job = puppets.outcome(puppets.submit([ANSWER, leaving]))

    assert (job["status"], job["error"]["code"], job["error"]["rows"]) == ("failed", "row_rejected", [1])
    wait_for("the entry is read", lambda: "dropped a batch" in puppets.workers[0].log())
    assert set(puppets.workers[0].children()) == children


def test_an_answer_that_json_can_not_say_is_an_error(puppets: Stack) -> None:
    response = puppets.predict({"value": 1, "act": Act.ANSWER_NAN})
    assert response.status_code == 422
    assert response.json()["type"] == "urn:headrace:problem:row_rejected"


def test_a_batch_that_runs_too_long_is_ended(hasty_puppets: Stack) -> None:
    hasty_puppets.wait_ready()
    response = hasty_puppets.predict({"value": 1.5, "act": Act.SLEEP})
    assert response.status_code == 504
    assert response.json()["type"] == "urn:headrace:problem:time_limit"
    job = hasty_puppets.outcome(hasty_puppets.submit({"value": 1.5, "act": Act.SLEEP}))
    assert (job["status"], job["error"]["code"]) == ("failed", "time_limit")
    assert hasty_puppets.predict(ANSWER).status_code == 200


def asked(stack: Stack, calls: int) -> bool:
    in_progress = Scrape(f"{stack.url}/metrics").total("inference_requests_in_progress", lane="interactive")
    return in_progress == calls


def test_past_its_deadline_a_row_is_never_computed(puppets: Stack) -> None:
    puppets.wait_idle()
    with ThreadPoolExecutor(3) as pool:
        busy = []
        for n in (1, 2):
            # One after another: together they could be one batch. The second may have to wait for the first: of a slow
            # model the gateway leaves one slot free.
            busy.append(pool.submit(puppets.predict, {"value": 4, "act": Act.SLEEP}, params={"deadline": 30}))
            wait_for("it is sent or waits", partial(asked, puppets, n))
        late = puppets.predict({"value": 7, "act": Act.REMEMBER}, params={"deadline": 0.2})
        assert late.status_code == 504
        assert all(future.result().status_code == 200 for future in busy)
    assert puppets.predict(ANSWER).status_code == 200
    assert not (puppets.folder / "7").exists()
