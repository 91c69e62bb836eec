import json
import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from fakeredis import FakeRedis

from gateway.broker.celery_message import queue_entry
from shared.queue import keys
from shared.queue.celery_app import make_celery
from shared.queue.contract import Message, RunJobsMessage, ShadowMessage
from shared.queue.job_scripts import script
from shared.settings import CommonSettings
from worker.execution.jobs import CLAIMED_AT_MOST, JobRuns

APP = make_celery(CommonSettings())
TIME_LIMIT = {"error": {"code": "time_limit", "message": "too long", "rows": []}}
SHADOW = ShadowMessage(model="m", version="v2", primary="v", rows=[[1.0]], predictions=["a"])


class Queue:
    """Jobs in a Redis, and a pool child that runs them."""

    def __init__(self) -> None:
        self.redis: Any = FakeRedis()
        self.runs = self.child()

    def child(self) -> JobRuns:
        return JobRuns(self.redis, lease_seconds=35, result_max_bytes=1000)

    def push(self, message: Message) -> None:
        self.redis.lpush("bulk", queue_entry(APP, message, "", 1.0))

    def push_redelivered(self) -> None:
        entry = json.loads(queue_entry(APP, RunJobsMessage(jobs=["x"]), "", 1.0))
        entry["properties"]["delivery_info"]["redelivered"] = True
        self.redis.lpush("bulk", json.dumps(entry))

    def submit(self, *ids: str) -> None:
        names = [keys.JOBS_OPEN, keys.JOB_COUNTS, "bulk"]
        args: list[Any] = [queue_entry(APP, RunJobsMessage(jobs=list(ids)), "", 1.0), 100_000, 10, 3600, 600, 3]
        args += [10**15] * 3
        for id_ in ids:
            names += [keys.job(id_), keys.job(id_)]
            args += [id_, "m", "v", "[[1.0]]", 1, "f", "", "", 0]
        self.redis.register_script(script("submit"))(keys=names, args=args)

    def take(self) -> None:
        self.redis.rpop("bulk")

    def status(self, id_: str) -> str:
        status: bytes = self.redis.hget(keys.job(id_), "status")
        return status.decode()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tasks take no time at all."""
    monkeypatch.setattr("worker.execution.jobs.monotonic", lambda: 1.0)


def test_the_first_task_claims_one_message_for_nothing_is_known_yet(queue: Queue) -> None:
    for id_ in "abc":
        queue.submit(id_)
    queue.take()

    queue.runs.start(["a"], redelivered=False)

    assert [job.id for job in queue.runs.claim("bulk")] == ["b"]


def test_quick_messages_are_claimed_many_at_a_time(queue: Queue, quick: None) -> None:
    for number in range(200):
        queue.submit(f"job{number}")
    queue.runs.start([], redelivered=False)
    queue.runs.end_task()

    claimed = queue.runs.claim("bulk")

    assert [job.id for job in claimed] == [f"job{number}" for number in range(CLAIMED_AT_MOST)], "the oldest first"
    assert claimed[0].rows == [[1.0]]
    assert (claimed[0].model, claimed[0].version, claimed[0].attempt) == ("m", "v", 1)
    assert queue.redis.llen("bulk") == 200 - CLAIMED_AT_MOST


def test_slow_messages_are_not_claimed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit("a")
    ticks = iter([0.0, 0.5])
    monkeypatch.setattr("worker.execution.jobs.monotonic", lambda: next(ticks))
    queue.runs.start([], redelivered=False)
    queue.runs.end_task()

    assert queue.runs.claim("bulk") == []
    assert queue.redis.llen("bulk") == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda queue: queue.push(SHADOW),
        lambda queue: queue.redis.lpush("bulk", "no task"),
        Queue.push_redelivered,
    ],
    ids=["shadow", "no task", "redelivered"],
)
def test_anything_else_is_left_to_the_consumer(queue: Queue, quick: None, spoil: Callable[[Queue], object]) -> None:
    queue.submit("a")
    spoil(queue)
    queue.submit("b")
    queue.runs.start([], redelivered=False)
    queue.runs.end_task()

    assert [job.id for job in queue.runs.claim("bulk")] == ["a"]
    assert queue.redis.llen("bulk") == 2


def test_a_job_that_ran_out_of_time_alone_ends(queue: Queue) -> None:
    queue.submit("a")
    queue.runs.start(["a"], redelivered=False)
    queue.runs.note_predicted(["a"])

    queue.runs.fail(TIME_LIMIT)

    assert queue.status("a") == "failed"


def test_a_job_that_was_not_predicted_yet_is_given_back(queue: Queue) -> None:
    queue.submit("a", "b")
    queue.runs.start(["a", "b"], redelivered=False)
    queue.runs.note_predicted(["a"])
    queue.runs.finish(["a"], [{"predictions": [1], "probabilities": None}], 0.1)

    queue.runs.fail(TIME_LIMIT)

    assert [queue.status(each) for each in "ab"] == ["succeeded", "running"]
    assert float(queue.redis.hget(keys.job("b"), "lease_until")) == 0.0


def test_jobs_that_ran_out_of_time_together_are_given_back(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.submit("a", "b", "done")
    queue.runs.start(["a", "b", "done"], redelivered=False)
    queue.runs.finish(["done"], [{"predictions": [1], "probabilities": None}], 0.1)

    with caplog.at_level(logging.WARNING):
        queue.runs.fail(TIME_LIMIT)

    assert [queue.status(id_) for id_ in ("a", "b", "done")] == ["running", "running", "succeeded"]
    assert [float(queue.redis.hget(keys.job(id_), "lease_until")) for id_ in "ab"] == [0.0, 0.0]
    assert "together: they will run again" in caplog.text


@pytest.mark.parametrize("asked", ["_finish", "_claim"])
def test_a_job_whose_time_went_by_while_redis_was_asked_is_given_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    queue.submit("a", "b")
    queue.runs.start(["a"], redelivered=False)
    interrupted = Mock(side_effect=SoftTimeLimitExceeded)
    monkeypatch.setattr(queue.runs, asked, interrupted)
    with pytest.raises(SoftTimeLimitExceeded):
        queue.runs.claim("bulk")
        queue.runs.finish(["a"], [{"predictions": [1], "probabilities": None}], 0.1)
    monkeypatch.undo()

    queue.runs.fail(TIME_LIMIT)

    assert interrupted.called
    assert queue.status("a") == "running"
    assert float(queue.redis.hget(keys.job("a"), "lease_until")) == 0.0


def test_an_outcome_that_is_too_large_is_a_failure(queue: Queue) -> None:
    queue.submit("a")
    queue.runs.start(["a"], redelivered=False)

    queue.runs.finish(["a"], [{"predictions": [1] * 1000, "probabilities": None}], 0.1)

    assert queue.status("a") == "failed"
    assert json.loads(queue.redis.hget(keys.job("a"), "outcome"))["error"]["code"] == "result_too_large"


def test_after_running_out_of_time_together_no_more_is_claimed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    for id_ in "abcd":
        queue.submit(id_)
    ticks = iter([0.0, 0.0, 0.0, 25.0, 25.0])
    monkeypatch.setattr("worker.execution.jobs.monotonic", lambda: next(ticks))
    queue.runs.start([], redelivered=False)
    queue.runs.end_task()
    queue.take()
    queue.runs.start(["a"], redelivered=False)
    assert len(queue.runs.claim("bulk")) == 3

    queue.runs.fail(TIME_LIMIT)
    queue.submit("e")
    queue.runs.start([], redelivered=False)

    assert queue.runs.claim("bulk") == [], "it would run out of time again and again"


def test_a_job_that_another_process_runs_is_not_ended(queue: Queue) -> None:
    queue.submit("a")
    queue.child().start(["a"], redelivered=False)

    assert queue.runs.start(["a"], redelivered=False) == []
    queue.runs.fail(TIME_LIMIT)

    assert queue.status("a") == "running"


@pytest.mark.parametrize("rows", ["[[1.0", "5", "null", "[]", "[5]", '{"a":1}', "\xff", ""])
def test_a_job_whose_rows_are_damaged_fails_alone(queue: Queue, caplog: pytest.LogCaptureFixture, rows: str) -> None:
    queue.submit("a", "bad", "b")
    queue.redis.hset(keys.job("bad"), "rows", rows.encode("latin-1"))

    assert [job.id for job in queue.runs.start(["a", "bad", "b"], redelivered=False)] == ["a", "b"]

    assert queue.status("bad") == "failed"
    assert json.loads(queue.redis.hget(keys.job("bad"), "outcome"))["error"]["code"] == "job_damaged"
    assert queue.redis.lrange(keys.JOBS_DAMAGED, 0, -1) == [
        f"{keys.job('bad')}: its rows are unreadable\n".encode() + rows.encode("latin-1")
    ]
    assert "the rows of job bad are damaged" in caplog.text


def test_a_claimed_job_whose_rows_are_damaged_fails_alone(queue: Queue, quick: None) -> None:
    for id_ in ("bad", "b"):
        queue.submit(id_)
    queue.redis.hset(keys.job("bad"), "rows", "[")
    queue.runs.start([], redelivered=False)
    queue.runs.end_task()

    assert [job.id for job in queue.runs.claim("bulk")] == ["b"]

    assert [queue.status(id_) for id_ in ("bad", "b")] == ["failed", "running"]


def test_a_claim_makes_no_record_of_a_job_that_was_forgotten(queue: Queue, quick: None) -> None:
    for id_ in "ab":
        queue.submit(id_)
    queue.take()
    queue.runs.start([], redelivered=False)
    queue.runs.end_task()
    queue.runs.start(["a"], redelivered=False)
    queue.redis.delete(keys.job("a"))

    assert [job.id for job in queue.runs.claim("bulk")] == ["b"]

    assert queue.redis.exists(keys.job("a")) == 0
