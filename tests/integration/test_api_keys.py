"""Two callers with API keys of their own, and the jobs of each."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_keys import new_key
from tests.support.processes import REPOSITORY, wait_for
from tests.support.stack import Stack

GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "api-keys"


@pytest.fixture(scope="module")
def alice(keys: Path) -> dict[str, str]:
    return new_key(keys, "alice", "--scope", "predict", "--scope", "jobs")


@pytest.fixture(scope="module")
def bob(keys: Path) -> dict[str, str]:
    return new_key(keys, "bob", "--scope", "jobs", "--scope", "read")


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, iris_models: Path, keys: Path, alice: dict[str, str], bob: dict[str, str]
) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), iris_models, API_KEYS_FILE=str(keys))
    try:
        yield stack.start()
    finally:
        stack.close()


def submitted(stack: Stack, caller: dict[str, str], **headers: str) -> str:
    answer = stack.http.post("/jobs", json=GOOD, headers=caller | headers)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def test_who_has_a_key_is_served(stack: Stack, alice: dict[str, str], bob: dict[str, str]) -> None:
    assert stack.predict(GOOD, headers=alice).json()["prediction"] == "setosa"
    assert stack.predict(GOOD).status_code == 401
    assert stack.predict(GOOD, headers=bob).status_code == 403
    assert stack.http.get("/health", headers=bob).status_code == 200


def test_a_job_is_there_for_its_owner_only(stack: Stack, alice: dict[str, str], bob: dict[str, str]) -> None:
    job_id = submitted(stack, alice)
    done = stack.http.get(f"/jobs/{job_id}", params={"wait": 10}, headers=alice).json()
    assert (done["status"], done["result"]["prediction"]) == ("succeeded", "setosa")
    theirs = stack.http.get(f"/jobs/{job_id}", headers=bob)
    nobodys = stack.http.get("/jobs/00000000-0000-4000-8000-000000000000", headers=bob)

    assert (theirs.status_code, theirs.content) == (404, nobodys.content), "nothing tells that there is such a job"
    assert stack.http.delete(f"/jobs/{job_id}", headers=bob).status_code == 404
    listed = [[job["id"] for job in stack.http.get("/jobs", headers=caller).json()["jobs"]] for caller in (alice, bob)]
    assert (job_id in listed[0], job_id in listed[1]) == (True, False)
    assert stack.http.delete(f"/jobs/{job_id}", headers=alice).status_code == 204
    assert stack.http.get(f"/jobs/{job_id}", headers=alice).status_code == 404


def test_idempotency_keys_are_an_owners_own(stack: Stack, alice: dict[str, str], bob: dict[str, str]) -> None:
    jobs = {submitted(stack, caller, **{"Idempotency-Key": "order-17"}) for caller in (alice, bob, alice, bob)}

    assert len(jobs) == 2


def test_a_key_comes_and_goes_without_a_restart(stack: Stack, keys: Path, alice: dict[str, str]) -> None:
    before = keys.read_text()
    job_id = submitted(stack, alice)
    second = new_key(keys, "alice", "--scope", "jobs")
    wait_for("the new key is known", lambda: stack.http.get("/jobs/x", headers=second).status_code == 404)
    assert stack.http.get(f"/jobs/{job_id}", headers=second).status_code == 200, "the owner is the same"

    keys.write_text(before)
    wait_for("it is gone", lambda: stack.http.get("/jobs/x", headers=second).status_code == 401)
    assert stack.http.get(f"/jobs/{job_id}", headers=alice).status_code == 200


def test_forbidden_requests_use_the_rate_up(stack: Stack, keys: Path) -> None:
    before = keys.read_text()
    curious = new_key(keys, "carol", "--scope", "read", "--rate", "0.01", "--burst", "1")

    def known() -> bool:
        status = stack.predict(GOOD, headers=curious).status_code
        assert status in (401, 403)
        return status == 403

    wait_for("the key is known", known)
    assert stack.predict(GOOD, headers=curious).status_code == 429
    assert stack.http.get("/health", headers=curious).status_code == 429
    keys.write_text(before)


def test_a_fifo_in_place_of_the_file_does_not_end_reloading(stack: Stack, keys: Path, alice: dict[str, str]) -> None:
    before = keys.read_text()
    keys.unlink()
    os.mkfifo(keys)
    wait_for("it is noticed", lambda: "not a regular file" in stack.gateway.log())
    assert stack.http.get("/jobs/x", headers=alice).status_code == 404, "the last keys stay"

    keys.unlink()
    keys.write_text(before)
    second = new_key(keys, "alice", "--scope", "jobs")
    wait_for("the new key is known", lambda: stack.http.get("/jobs/x", headers=second).status_code == 404)
    keys.write_text(before)


def test_no_key_is_in_a_log_or_in_redis(stack: Stack, alice: dict[str, str], bob: dict[str, str]) -> None:
    submitted(stack, alice)
    dumped = [stack.redis.hgetall(name) for name in stack.redis.scan_iter("headrace:job:*")]
    assert dumped
    for caller in (alice, bob):
        secret = caller["Authorization"].split()[1]
        assert secret not in stack.logs()
        assert secret not in json.dumps(str(dumped))


@pytest.mark.parametrize(("text", "reason"), [("", "it holds no key"), ("alice sesame predict\n", "line 1")])
def test_a_gateway_that_should_ask_and_could_not_does_not_start(
    tmp_path: Path, iris_models: Path, text: str, reason: str
) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env={"PATH": "", "MODEL_STORE": str(iris_models), "API_KEYS_FILE": str(path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("headrace: ")]
    assert reason in line and "sesame" not in ended.stderr
