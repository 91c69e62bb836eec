"""`/jobs`: durable, idempotent, one outcome each."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.queue import keys
from tests.integration.conftest import NewStack
from tests.support.processes import wait_for
from tests.support.puppet import PUPPET_FOLDER, Act
from tests.support.stack import Stack

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
VIRGINICA = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}


def test_a_job_goes_from_202_to_its_outcome(stack: Stack) -> None:
    accepted = stack.http.post("/jobs", json=SETOSA)
    assert accepted.status_code == 202
    assert accepted.json()["status"] == "queued"
    assert accepted.headers["location"] == f"/jobs/{accepted.json()['id']}"
    job = stack.outcome(accepted.json()["id"])
    assert job["status"] == "succeeded"
    assert job["attempt"] == 1
    assert job["result"]["prediction"] == "setosa"
    assert job["result"]["probabilities"] == stack.predict(SETOSA).json()["probabilities"]
    assert job["timing"]["total_ms"] >= job["timing"]["queue_ms"]
    stack.assert_conserved()


def test_a_job_of_many_rows_keeps_their_order(stack: Stack) -> None:
    job = stack.outcome(stack.submit([SETOSA, VIRGINICA, SETOSA]))
    assert job["result"]["predictions"] == ["setosa", "virginica", "setosa"]


def test_long_poll_returns_when_the_job_ends(stack: Stack) -> None:
    job_id = stack.submit(SETOSA)
    response = stack.http.get(f"/jobs/{job_id}", params={"wait": 20})
    assert response.json()["status"] == "succeeded"
    assert response.elapsed.total_seconds() < 5


def test_an_unknown_id_is_404(stack: Stack) -> None:
    for method in ("GET", "DELETE"):
        response = stack.http.request(method, "/jobs/00000000-0000-4000-8000-000000000000")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


def test_the_same_key_gives_the_same_job_to_a_hundred_callers(stack: Stack) -> None:
    before = stack.jobs()["accepted"]

    def submit(_: int) -> tuple[str, bool]:
        response = httpx.post(
            f"{stack.url}/jobs", json=SETOSA, headers={"Idempotency-Key": "hundred"}, timeout=30, trust_env=False
        )
        assert response.status_code == 202
        return response.json()["id"], "idempotent-replayed" in response.headers

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(submit, range(100)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(not replayed for _, replayed in answers) == 1
    assert stack.jobs()["accepted"] == before + 1


def test_the_same_key_with_other_rows_is_422(stack: Stack) -> None:
    headers = {"Idempotency-Key": "one body"}
    assert stack.http.post("/jobs", json=SETOSA, headers=headers).status_code == 202
    # White space and the order of members do not matter.
    again = stack.http.post("/jobs", json=dict(reversed(SETOSA.items())), headers=headers)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    refused = stack.http.post("/jobs", json=VIRGINICA, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:headrace:problem:idempotency_key_reused"


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_unusable_key_is_422(stack: Stack, key: str) -> None:
    assert stack.http.post("/jobs", json=SETOSA, headers={"Idempotency-Key": key}).status_code == 422


def test_an_ended_job_can_not_be_cancelled(stack: Stack) -> None:
    job_id = stack.submit(SETOSA)
    stack.outcome(job_id)
    assert stack.http.delete(f"/jobs/{job_id}").status_code == 409
    assert stack.job(job_id)["status"] == "succeeded"


def remembering(value: float) -> dict[str, Any]:
    return {"value": value, "act": Act.REMEMBER}


def test_a_cancelled_job_never_runs(new_stack: NewStack, puppet_models: Path, puppet_folder: Path) -> None:
    stack = new_stack(
        puppet_models, DEFAULT_MODEL="puppet", **{PUPPET_FOLDER: str(puppet_folder)}
    ).start_without_workers()
    cancelled, kept = stack.submit(remembering(1)), stack.submit(remembering(2))
    for _ in range(2):
        assert stack.http.delete(f"/jobs/{cancelled}").json()["status"] == "cancelled"
    stack.workers[0].start()
    assert stack.outcome(kept)["status"] == "succeeded"
    assert [path.name for path in puppet_folder.iterdir()] == ["2"]
    assert stack.job(cancelled)["status"] == "cancelled"
    stack.assert_conserved()


def test_a_job_that_waited_too_long_expires_and_never_runs(
    new_stack: NewStack, puppet_models: Path, puppet_folder: Path
) -> None:
    options = {"DEFAULT_MODEL": "puppet", "JOB_EXPIRY_SECONDS": "0.5", "JOB_CHECK_SECONDS": "0.5"}
    stack = new_stack(puppet_models, **options, **{PUPPET_FOLDER: str(puppet_folder)}).start_without_workers()
    job_id = stack.submit(remembering(1))
    # No worker is needed: the reconciler expires the job.
    assert stack.outcome(job_id)["status"] == "expired"
    stack.workers[0].start()
    wait_for("the message is consumed", lambda: stack.redis.llen("bulk") == 0)
    assert stack.outcome(job_id)["status"] == "expired"
    assert list(puppet_folder.iterdir()) == []
    stack.assert_conserved()


def test_a_lost_message_is_published_again(new_stack: NewStack, iris_models: Path) -> None:
    stack = new_stack(iris_models, JOB_CHECK_SECONDS="0.5").start_without_workers()
    job_id = stack.submit(SETOSA)
    assert stack.redis.delete("bulk") == 1
    stack.workers[0].start()
    assert stack.outcome(job_id)["status"] == "succeeded"


def test_jobs_that_wait_in_a_long_queue_are_not_published_twice(new_stack: NewStack, iris_models: Path) -> None:
    stack = new_stack(iris_models, JOB_CHECK_SECONDS="0.2").start_without_workers()
    submitted = [stack.submit(SETOSA) for _ in range(5)]
    entries = stack.redis.llen("bulk")

    def all_checked_again() -> bool:
        # Their next check is a whole interval after the first one.
        scores = [stack.redis.zscore(keys.JOBS_OPEN, job_id) for job_id in submitted]
        first = [float(stack.redis.hget(keys.job(job_id), "published_at") or 0) + 1 for job_id in submitted]
        return all(score is not None and score > then for score, then in zip(scores, first, strict=True))

    wait_for("the reconciler has looked", all_checked_again)
    assert stack.redis.llen("bulk") == entries
    stack.workers[0].start()
    for job_id in submitted:
        assert stack.outcome(job_id)["attempt"] == 1


def test_too_many_open_jobs_are_503_with_retry_after(new_stack: NewStack, iris_models: Path) -> None:
    stack = new_stack(iris_models, JOBS_OPEN_MAX="2").start_without_workers()
    accepted = [stack.submit(SETOSA), stack.submit(SETOSA)]
    refused = stack.http.post("/jobs", json=SETOSA)
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:headrace:problem:queue_full"
    assert int(refused.headers["retry-after"]) >= 1
    stack.workers[0].start()
    for job_id in accepted:
        assert stack.outcome(job_id)["status"] == "succeeded"
