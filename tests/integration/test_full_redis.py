"""A Redis at its maxmemory: jobs end all the same, and no owner fills it alone."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth.api_keys import digest_of
from shared.queue import keys
from shared.queue.contract import Lane
from shared.queue.job_scripts import script
from tests.integration.conftest import NewStack
from tests.support.jobs import New
from tests.support.processes import wait_for
from tests.support.stack import Stack
from worker.execution.jobs import JobRuns

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
BIG: Any = {"predictions": [0] * 5000, "probabilities": None}
ERROR: Any = {"error": {"code": "row_rejected", "message": "the model rejects a row", "rows": [0]}}
WIDE = json.dumps([[-0.1234567890123456] * 25])
JOBS = 1000
ENTRY_BYTES = 950
"""Bytes of the queue entry of one job."""
TOLERANCE = 1.05
"""Most bytes in Redis for each byte in an account."""


def answer(rows: int) -> Any:
    """Return an outcome of two bytes a row."""
    return {"predictions": [0] * rows, "probabilities": None}


class Board:
    """The job scripts on a real Redis that a test can fill up."""

    def __init__(self, stack: Stack) -> None:
        self.redis: Any = stack.redis
        self.runs = JobRuns(stack.redis, lease_seconds=35, result_max_bytes=10**6)

    def call(self, name: str, more_keys: list[str], args: list[Any]) -> Any:
        return self.redis.register_script(script(name))(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *more_keys], args=args)

    def submit(self, *jobs: New, envelope: str = "message") -> None:
        args: list[Any] = [envelope, 10_000, 10, 3600, 600, 3, *[10**15] * 3]
        names = [Lane.BULK.value]
        for job in jobs:
            names += [keys.job(job.id), job.idempotency_key]
            args += [job.id, "iris", "v1", job.rows, 1, "f", job.owner, job.trace, 0]
        self.call("submit", names, args)

    def delete(self, id_: str, owner: str) -> bytes:
        deletion: bytes = self.call("delete", [keys.job(id_)], [keys.JOBS_ENDED, id_, owner])
        return deletion

    def memory(self) -> int:
        """Return the bytes of the data, without connections and the buffer of the file."""
        info = self.redis.info("memory")
        return int(info["used_memory"] - info["mem_clients_normal"] - info["mem_aof_buffer"])

    def account(self, owner: str) -> int:
        found = self.redis.hgetall(keys.job_owner(owner))
        return sum(int(amount) for field, amount in found.items() if field != b"open")

    def fill(self) -> None:
        self.redis.config_set("maxmemory", 1)

    def outcome(self, id_: str) -> tuple[str, Any]:
        status, outcome = self.redis.hmget(keys.job(id_), "status", "outcome")
        return status.decode(), json.loads(outcome or b"null")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    stack = Stack(tmp_path, tmp_path, workers=0)
    stack.start_broker()
    try:
        yield Board(stack)
    finally:
        stack.close()


def test_jobs_start_end_and_run_again_in_a_full_redis(board: Board) -> None:
    board.submit(*map(New, ["small", "large", "lost", "cancelled", "overdue"]))
    board.fill()

    started = board.runs.start(["small", "large", "lost"], redelivered=False)
    assert [job.id for job in started] == ["small", "large", "lost"]
    board.runs.finish(["large", "small"], [BIG, {"predictions": [1], "probabilities": None}], 0.1)
    assert board.outcome("small") == ("succeeded", {"predictions": [1], "probabilities": None})
    status, outcome = board.outcome("large")
    assert (status, outcome["error"]["code"]) == ("failed", "result_too_large")

    board.call("release", [keys.job("lost")], ["lost"])
    reconcile = [keys.JOBS_ENDED, "lost", "again", 10, 2, 35, 130]
    assert board.call("reconcile", [Lane.BULK.value, keys.job("lost")], reconcile) == b"republished"
    assert board.call("delete", [keys.job("cancelled")], [keys.JOBS_ENDED, "cancelled", ""]) == b"cancelled"
    assert board.call("tidy", [], [1000, 600, 500, 10**9]) == 0
    counts = {name: int(count) for name, count in board.redis.hgetall(keys.JOB_COUNTS).items()}
    assert counts == {b"accepted": 5, b"succeeded": 1, b"failed": 1, b"cancelled": 1}
    assert board.redis.zcard(keys.JOBS_OPEN) == 2


def test_older_results_make_room_for_a_new_one_in_a_full_redis(board: Board) -> None:
    ids = ["first", "second", "third"]
    for id_ in ids:
        board.submit(New(id_))
        board.runs.start([id_], redelivered=False)
    for id_ in ids[:2]:
        board.runs.finish([id_], [BIG], 0.1)
    board.fill()

    board.runs.finish(["third"], [BIG], 0.1)

    assert [board.outcome(id_)[0] for id_ in ids] == ["succeeded"] * 3
    assert [board.outcome(id_)[1] is not None for id_ in ids] == [False, True, True]
    assert board.redis.zcard(keys.JOB_RESULTS) == 2


def test_a_full_redis_accepts_no_job_in_part(board: Board) -> None:
    board.fill()
    before = board.redis.dbsize()

    with pytest.raises(Exception, match="maxmemory"):
        board.submit(New("a", key="k", owner="alice"))

    assert board.redis.dbsize() == before


def test_accepted_jobs_have_room_for_their_outcomes(new_stack: NewStack, iris_models: Path) -> None:
    stack = new_stack(iris_models).start_without_workers()
    stack.redis.config_set("maxmemory", 8_000_000)
    rows = [SETOSA] * 4_000
    accepted: list[str] = []

    def refused() -> httpx.Response | None:
        answer = stack.http.post("/jobs", json={"instances": rows})
        if answer.status_code == 202:
            accepted.append(answer.json()["id"])
        return answer if answer.status_code == 503 else None

    answer = wait_for("no more are accepted", refused)
    assert answer.json()["type"] == "urn:headrace:problem:queue_full"
    assert "outcome" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    assert len(accepted) >= 5
    stack.workers[0].start()

    def ended() -> list[Any]:
        # A list leaves the results out, some of which have made room for newer ones.
        jobs = stack.http.get("/jobs?limit=500").json()["jobs"]
        return jobs if all("ended_at" in job for job in jobs) else []

    jobs = wait_for("all have ended", ended)
    assert {job["id"] for job in jobs} == set(accepted)
    assert {(job["status"], job["attempt"]) for job in jobs} == {("succeeded", 1)}
    wait_for("jobs are accepted again", lambda: refused() is None)
    stack.assert_conserved()


@pytest.mark.parametrize(
    ("job", "outcome"),
    [
        pytest.param(New("", key="k"), answer(1), id="a short row and a key"),
        pytest.param(New("", rows=WIDE), answer(1), id="25 numbers"),
        pytest.param(New("", key="k", rows=WIDE), answer(1), id="25 numbers and a key"),
        pytest.param(New("", key="k", rows=WIDE), ERROR, id="a failed job"),
        pytest.param(New("", key="k"), answer(150), id="an outcome above 256 bytes"),
        pytest.param(New("", key="k"), answer(550), id="a kept result"),
        pytest.param(
            New("", key="k", rows=WIDE.ljust(8200), coming=8200), answer(4100), id="values that are rounded up"
        ),
        pytest.param(New("", key="k", trace="t" * 8200), answer(1), id="a long trace"),
    ],
)
def test_the_account_of_an_owner_is_what_redis_keeps(board: Board, job: New, outcome: Any) -> None:
    ids = [str(uuid.uuid4()) for _ in range(JOBS)]
    board.redis.config_set("appendonly", "no")
    # Scripts are loaded, and the first of their lists are made.
    board.submit(New("first", owner="alice"))
    board.runs.start(["first"], redelivered=False)
    board.runs.finish(["first"], [outcome], 0.1)
    board.delete("first", "alice")
    memory, account = board.memory(), board.account("alice")

    def check(when: str) -> None:
        kept, charged = board.memory() - memory, board.account("alice") - account
        assert kept <= TOLERANCE * charged, f"{when}: {kept / JOBS:.0f} bytes a job, {charged / JOBS:.0f} charged"

    for id_ in ids:
        board.submit(replace(job, id=id_, owner="alice", key=job.key and id_), envelope="e" * ENTRY_BYTES)
    check("open")
    for id_ in ids[: JOBS // 2]:
        assert board.delete(id_, "alice") == b"cancelled"
    check("half of them cancelled")
    for id_ in ids[: JOBS // 2]:
        assert board.delete(id_, "alice") == b"forgotten"
    check("half of them forgotten, and still in the queue")
    for id_ in ids[JOBS // 2 :]:
        board.redis.rpop(Lane.BULK.value)
        board.runs.start([id_], redelivered=False)
        board.runs.finish([id_], [outcome], 0.1)
    check("half of them computed")
    board.redis.delete(Lane.BULK.value)
    for id_ in ids[JOBS // 2 :]:
        assert board.delete(id_, "alice") == b"forgotten"
    assert board.account("alice") - account == JOBS * 100 + JOBS // 2 * 1000, "all else was taken out again"


def test_an_owner_with_too_many_jobs_shuts_no_other_out(new_stack: NewStack, iris_models: Path, tmp_path: Path) -> None:
    lines = [f"{owner} sha256:{digest_of(owner.encode()).hex()} predict,jobs,read" for owner in ("alice", "bob")]
    (tmp_path / "keys").write_text("\n".join(lines) + "\n")
    options = {"API_KEYS_FILE": str(tmp_path / "keys"), "JOBS_OPEN_MAX": "4", "OWNER_JOB_BYTES_MAX": "100000"}
    stack = new_stack(iris_models, **options).start_without_workers()

    def submit(owner: str, rows: int = 1) -> httpx.Response:
        headers = {"Authorization": f"Bearer {owner}"}
        return stack.http.post("/jobs", json={"instances": [SETOSA] * rows}, headers=headers)

    assert [submit("alice").status_code for _ in range(2)] == [202, 202]
    refused = submit("alice")
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:headrace:problem:quota_exceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert submit("bob", rows=2_000).status_code == 429
    assert submit("bob").status_code == 202
