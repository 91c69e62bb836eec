import logging
from types import SimpleNamespace
from typing import Any

import celery.worker.request
import pytest
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from fakeredis import FakeRedis, FakeServer

from gateway.broker.celery_message import queue_entry
from shared.observability.metric_names import MODELS_MAX
from shared.queue import keys
from shared.queue.celery_app import make_celery
from shared.queue.contract import PREDICT_TASK, RUN_JOBS_TASK, BatchReply, Call, PredictMessage, RunJobsMessage
from shared.queue.replies import REPLY_TTL_SECONDS
from shared.settings import CommonSettings
from tests.unit.worker.metrics.test_worker import samples
from worker.consumer.crashes import LostBatches, Request, timed_out
from worker.execution.chain import ChainBoard
from worker.metrics.worker import WorkerMetrics

REPLY_TO = "headrace:replies:test"
BATCH = PredictMessage(
    batch=7,
    reply_to=REPLY_TO,
    model="iris",
    version="v1",
    calls=[Call(2, 0.0, 1.0), Call(1, 0.0, 1.0)],
    rows=[[1.0], [2.0], [3.0]],
)
JOBS = RunJobsMessage(jobs=["a", "b"])


class Main:
    """The main process of a worker."""

    def __init__(self, broker: FakeServer) -> None:
        self.redis: Any = FakeRedis(server=broker)
        self.counted: list[tuple[str, str, str, int]] = []
        self.board = ChainBoard(2)
        self.lost = LostBatches("redis://", lambda *counted: self.counted.append(counted), self.board, "worker@here")

    def fails(self, task: str, payload: str, exception: BaseException) -> None:
        """Report a failed task as Celery does."""
        self.lost.on_task_failure(
            sender=SimpleNamespace(name=task), exception=exception, args=[payload], task_id="1", signal=None
        )


@pytest.fixture
def main(broker: FakeServer) -> Main:
    return Main(broker)


@pytest.mark.parametrize(
    ("exception", "code"), [(WorkerLostError("signal 9"), "worker_lost"), (TimeLimitExceeded(30), "time_limit")]
)
def test_the_callers_of_a_lost_batch_are_told_at_once(main: Main, exception: BaseException, code: str) -> None:
    main.fails(PREDICT_TASK, BATCH.to_json(), exception)

    [(_, fields)] = main.redis.xrange(REPLY_TO)
    reply = BatchReply.model_validate_json(fields[b"reply"])
    assert reply.batch == 7
    assert [result["error"]["code"] for result in reply.results] == [code] * 2
    assert main.counted == [("iris", "v1", code, 3)]


def test_the_reply_does_not_outlive_a_gateway_that_is_gone(main: Main) -> None:
    main.fails(PREDICT_TASK, BATCH.to_json(), WorkerLostError())

    assert 0 < main.redis.ttl(REPLY_TO) <= REPLY_TTL_SECONDS


@pytest.mark.parametrize("exception", [WorkerLostError("signal 9"), TimeLimitExceeded(30)])
def test_its_jobs_go_back_to_the_reconciler(main: Main, exception: BaseException) -> None:
    for job in "abc":
        main.redis.hset(keys.job(job), mapping={"status": "running", "lease_until": "9e9"})
        main.redis.zadd(keys.JOBS_OPEN, {job: 9e9})

    main.fails(RUN_JOBS_TASK, JOBS.to_json(), exception)

    due = main.redis.zrangebyscore(keys.JOBS_OPEN, "-inf", 8e9)
    assert due == [b"a", b"b"]
    assert main.redis.hget(keys.job("a"), "lease_until") == b"0"
    assert main.redis.hget(keys.job("c"), "lease_until") == b"9e9"


@pytest.mark.parametrize("exception", [ValueError("a bug"), KeyError(), SystemExit()])
def test_a_task_that_failed_by_itself_has_answered_by_itself(main: Main, exception: BaseException) -> None:
    main.fails(PREDICT_TASK, BATCH.to_json(), exception)

    assert main.redis.keys() == []
    assert main.counted == []


@pytest.mark.parametrize("task", ["celery.chord", PREDICT_TASK, RUN_JOBS_TASK])
def test_what_is_not_ours_is_let_be(main: Main, task: str, caplog: pytest.LogCaptureFixture) -> None:
    main.fails(task, '{"sesame":1}', WorkerLostError())

    assert main.redis.keys() == []
    assert "sesame" not in caplog.text


@pytest.mark.parametrize(("task", "message"), [(PREDICT_TASK, BATCH), (RUN_JOBS_TASK, JOBS)])
def test_without_a_broker_it_is_left_to_deadlines_and_leases(
    main: Main, broker: FakeServer, caplog: pytest.LogCaptureFixture, task: str, message: Any
) -> None:
    broker.connected = False

    with caplog.at_level(logging.ERROR):
        main.fails(task, message.to_json(), WorkerLostError())

    assert "lost batch not reported: ConnectionError" in caplog.messages


def test_lost_rows_are_counted_without_the_model_store() -> None:
    metrics = WorkerMetrics()

    metrics.count_lost("m", "v1", "worker_lost", 3)

    counts = samples(metrics.errors, metrics.predictions)
    assert counts["inference_errors_total/worker_lost/m/v1"] == 3
    assert counts["inference_predictions_total/m/error/v1"] == 3


def test_lost_rows_of_any_number_of_versions_make_a_bounded_number_of_series() -> None:
    metrics = WorkerMetrics()

    for number in range(2 * MODELS_MAX):
        metrics.count_lost("m", f"v{number}", "worker_lost", 1)

    counts = samples(metrics.errors)
    assert len(counts) == MODELS_MAX + 1
    assert counts["inference_errors_total/worker_lost/other/other"] == MODELS_MAX


@pytest.mark.parametrize("reported", [MemoryError("no room"), ExceptionWithTraceback(MemoryError(), None)])
def test_a_child_without_memory_for_a_task_is_a_lost_child(reported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(celery.worker.request.Request, "on_failure", lambda _, info, **__: seen.append(info.exception))

    Request.on_failure(Request.__new__(Request), SimpleNamespace(exception=reported), return_ok=True)
    Request.on_failure(Request.__new__(Request), SimpleNamespace(exception=ValueError("other")))

    lost, other = (each.exc if isinstance(each, ExceptionWithTraceback) else each for each in seen)
    assert isinstance(lost, WorkerLostError)
    assert "memory" in str(lost)
    assert isinstance(other, ValueError)


# --- batches that a child has taken itself

HELD = keys.held("worker@here", 1)


def dead_child(pid: int = 8) -> Any:
    return SimpleNamespace(pid=pid, index=1, exitcode=-9)


def taken(main: Main, *batches: PredictMessage) -> None:
    for batch in batches:
        main.redis.lpush(HELD, queue_entry(make_celery(CommonSettings()), batch, "", 1.0))


@pytest.mark.parametrize("code", ["worker_lost", "time_limit"])
def test_the_callers_of_a_taken_batch_are_told_when_its_child_is_found_dead(main: Main, code: str) -> None:
    taken(main, BATCH)
    if code == "time_limit":
        timed_out.add(8)

    main.lost.on_child_death(dead_child())

    [(_, fields)] = main.redis.xrange(REPLY_TO)
    reply = BatchReply.model_validate_json(fields[b"reply"])
    assert [result["error"]["code"] for result in reply.results] == [code] * 2
    assert main.counted == [("iris", "v1", code, 3)]
    assert not main.redis.exists(HELD)
    assert not timed_out


def test_a_batch_that_was_answered_before_its_child_died_is_not_answered_again(main: Main) -> None:
    main.board.note_answered(1, "1")
    main.fails(PREDICT_TASK, BATCH.to_json(), WorkerLostError("signal 9"))
    main.lost.on_child_death(dead_child())

    assert (main.redis.exists(REPLY_TO), main.counted) == (0, [])


def test_taken_batches_go_back_at_the_end_of_the_worker(main: Main) -> None:
    taken(main, BATCH, BATCH)
    first = main.redis.lindex(HELD, -1)

    main.lost.give_back(2)

    assert main.redis.llen("interactive") == 2
    assert main.redis.rpop("interactive") == first
    assert not main.redis.exists(HELD)


def test_without_a_broker_taken_batches_are_left_to_their_deadlines(
    main: Main, broker: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    taken(main, BATCH)
    broker.connected = False

    main.lost.on_child_death(dead_child())
    main.lost.give_back(2)

    assert "lost batch not reported: ConnectionError" in caplog.text
