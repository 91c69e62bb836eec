"""`/jobs`: durable, idempotent, one outcome each."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import Client
from headrace.client.errors import ResultExpired
from headrace.models.manifest import Manifest
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
            f"{stack.url}/jobs", json=SETOSA, headers={"Idempotency-Key": "hundred"}, timeout=60, trust_env=False
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


def test_the_same_key_for_another_version_or_form_of_answer_is_422(stack: Stack, iris: Manifest) -> None:
    headers = {"Idempotency-Key": "one version"}
    path = f"/models/iris/versions/{iris.version}/jobs"
    sent: list[tuple[str, Any]] = [(path, SETOSA), (path, SETOSA), (path, {"instances": [SETOSA]}), ("/jobs", SETOSA)]
    answers = [stack.http.post(path, json=body, headers=headers) for path, body in sent]
    assert [answer.status_code for answer in answers] == [202, 202, 422, 422]
    assert answers[0].json()["id"] == answers[1].json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_unusable_key_is_422(stack: Stack, key: str) -> None:
    assert stack.http.post("/jobs", json=SETOSA, headers={"Idempotency-Key": key}).status_code == 422


def test_an_ended_job_is_forgotten_with_its_key(stack: Stack) -> None:
    headers = {"Idempotency-Key": "to be forgotten"}
    job_id = stack.submit(SETOSA, headers=headers)
    stack.outcome(job_id)
    answers = [stack.http.delete(f"/jobs/{job_id}") for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b""), (404, answers[1].content)]
    assert stack.http.get(f"/jobs/{job_id}").status_code == 404
    assert stack.redis.exists(keys.job(job_id), keys.idempotency("to be forgotten")) == 0
    assert stack.submit(SETOSA, headers=headers) != job_id
    stack.assert_conserved()


def test_jobs_are_listed_in_pages(stack: Stack) -> None:
    submitted = [stack.submit(SETOSA) for _ in range(5)]
    for job_id in submitted:
        stack.outcome(job_id)
    first = stack.job(submitted[0])["accepted_at"]
    asked = {"status": "succeeded", "model": "iris", "since": first, "limit": "2"}
    found, pages = [], 0
    while True:
        page = stack.http.get("/jobs", params=asked).json()
        found += page["jobs"]
        pages += 1
        if "next" not in page:
            break
        asked["cursor"] = page["next"]
    assert [job["id"] for job in found if job["id"] in submitted] == submitted[::-1]
    assert pages == -(-len(found) // 2)
    expected = stack.job(submitted[-1])
    del expected["result"]
    assert found[0] == expected
    with Client(stack.url) as client:
        listed = [job["id"] for job in client.jobs(model="iris", since=datetime.fromisoformat(first[:-1] + "+00:00"))]
    assert listed == [job["id"] for job in found]


@pytest.mark.parametrize(
    "query",
    [
        *(
            "status=done",
            "status=",
            "model=a/b",
            "since=1.5",
            "since=yesterday",
            "since=2026-01-01T00:00:00",
            "limit=0",
            "limit=501",
        ),
        *("limit=many", "cursor=", "cursor=x", "cursor=%C3%A4", "cursor=" + "x" * 65, "cursor=1-2%0A", "cursor=1-"),
    ],
)
def test_a_list_that_is_asked_for_wrongly_is_422(stack: Stack, query: str) -> None:
    response = stack.http.get(f"/jobs?{query}")
    assert response.status_code == 422
    assert response.json()["type"] == "urn:headrace:problem:invalid_parameter"


def remembering(value: float) -> dict[str, Any]:
    return {"value": value, "act": Act.REMEMBER}


def test_a_cancelled_job_never_runs(new_stack: NewStack, puppet_models: Path, puppet_folder: Path) -> None:
    stack = new_stack(
        puppet_models, DEFAULT_MODEL="puppet", **{PUPPET_FOLDER: str(puppet_folder)}
    ).start_without_workers()
    cancelled, kept = stack.submit(remembering(1)), stack.submit(remembering(2))
    assert stack.http.delete(f"/jobs/{cancelled}").json()["status"] == "cancelled"
    assert [job["id"] for job in stack.http.get("/jobs?status=queued").json()["jobs"]] == [kept]
    stack.workers[0].start()
    assert stack.outcome(kept)["status"] == "succeeded"
    assert [path.name for path in puppet_folder.iterdir()] == ["2"]
    assert stack.job(cancelled)["status"] == "cancelled"
    failed = stack.submit({"value": 3, "act": Act.RAISE})
    assert stack.outcome(failed)["error"]["rows"] == [0]
    [listed] = stack.http.get("/jobs?status=failed").json()["jobs"]
    assert (listed["id"], listed["error"]["code"]) == (failed, stack.job(failed)["error"]["code"])
    assert [job["id"] for job in stack.http.get("/jobs?status=cancelled").json()["jobs"]] == [cancelled]
    assert stack.http.delete(f"/jobs/{cancelled}").status_code == 204
    assert [job["id"] for job in stack.http.get("/jobs").json()["jobs"]] == [failed, kept]
    stack.assert_conserved()


def test_results_that_fill_redis_make_room_for_newer_ones(new_stack: NewStack, iris_models: Path) -> None:
    stack = new_stack(iris_models).start()
    memory_bytes = 16_000_000
    stack.redis.config_set("maxmemory", memory_bytes)
    wait_for(
        "the workers know the limit",
        lambda: stack.redis.hget(keys.JOB_RESULT_COUNTS, "bytes_max") == b"%d" % (memory_bytes // 2),
    )
    rows = [SETOSA] * 10_000
    submitted: list[str] = []
    for _ in range(20):
        submitted.append(stack.submit(rows))
        stack.job(submitted[-1], wait=30)
    assert stack.redis.info("memory")["used_memory"] < 0.9 * memory_bytes
    assert len(stack.job(submitted[-1])["result"]["predictions"]) == len(rows)
    gone = stack.http.get(f"/jobs/{submitted[0]}")
    assert (gone.status_code, gone.json()["type"]) == (410, "urn:headrace:problem:result_expired")
    assert (gone.json()["job"]["status"], gone.json()["job"]["result_expired"]) == ("succeeded", True)
    with Client(stack.url) as client:
        assert client.job(submitted[0]).status() == "succeeded"
        with pytest.raises(ResultExpired):
            client.job(submitted[0]).result()
        assert [job["status"] for job in client.jobs()] == ["succeeded"] * len(submitted)
    metrics = stack.http.get("/metrics").text
    assert f"inference_result_bytes_limit {memory_bytes // 2:.1f}".replace("8000000.0", "8e+06") in metrics
    assert stack.http.get("/metrics").text.count("inference_results_dropped_total") > 0
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
