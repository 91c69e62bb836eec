import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, cast

import billiard.common
import pytest
import redis
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate

from shared.errors import PredictionError
from shared.queue.celery_app import make_celery
from shared.queue.contract import (
    PREDICT_TASK,
    RUN_JOBS_TASK,
    SHADOW_TASK,
    Call,
    Message,
    PredictMessage,
    RunJobsMessage,
    ShadowMessage,
)
from shared.settings import CommonSettings
from worker.execution.batch_runner import BatchRunner
from worker.execution.chain import Batch
from worker.execution.tasks import register_tasks

BATCH = PredictMessage(
    batch=7, reply_to="headrace:replies:r", model="m", version="v", calls=[Call(1, 0.0, 1.0)], rows=[[1.0]]
)
JOBS = RunJobsMessage(jobs=["a", "b"])
SHADOW = ShadowMessage(model="m", version="v2", primary="v", rows=[[1.0]], predictions=["a"])
TASKS = [(PREDICT_TASK, BATCH), (RUN_JOBS_TASK, JOBS), (SHADOW_TASK, SHADOW)]


class FakeChain:
    """A chain of the batch that Celery delivered, and of `taken`."""

    def __init__(self) -> None:
        self.taken: list[Batch] = []
        self.runs: list[tuple[str, str]] = []
        """Queue and task of each run."""

    def run(self, first: Batch, queue: str, task_id: str) -> Iterator[Batch]:
        self.runs.append((queue, task_id))
        yield from (first, *self.taken)


class FakeRunner:
    """A batch runner that notes its calls, and raises `failure` if it is set."""

    def __init__(self) -> None:
        self.chain = FakeChain()
        self.calls: list[tuple[Any, ...]] = []
        self.failure: BaseException | None = None
        self.traces: list[object] = []
        """The header `traces` of each batch."""

    def predict(self, message: PredictMessage, traces: object) -> None:
        self._note("predict", message)
        self.traces.append(traces)

    def run_jobs(self, message: RunJobsMessage, redelivered: bool, queue: str) -> None:
        self._note("run_jobs", message, redelivered, queue)

    def shadow(self, message: ShadowMessage, queue: str) -> None:
        self._note("shadow", message, queue)

    def fail_calls(self, message: PredictMessage, error: PredictionError) -> None:
        self.calls.append(("fail_calls", message, error.code))

    def fail_jobs(self, error: PredictionError) -> None:
        self.calls.append(("fail_jobs", error.code))

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def app(runner: FakeRunner) -> Celery:
    app = make_celery(CommonSettings())
    register_tasks(app, lambda: cast(BatchRunner, runner))
    return app


Run = Callable[..., None]


@pytest.fixture
def run_task(app: Celery) -> Run:
    """Run a task as a pool child does."""

    def run(name: str, payload: str, **delivery_info: Any) -> None:
        task = app.tasks[name]
        task.push_request(**delivery_info.pop("headers", {}), delivery_info={"routing_key": "bulk.m", **delivery_info})
        try:
            task.run(payload)
        finally:
            task.pop_request()

    return run


def test_the_worker_knows_these_tasks(app: Celery) -> None:
    assert {name for name in app.tasks if not name.startswith("celery.")} == {name for name, _ in TASKS}


def test_their_options_are_those_of_the_configuration(app: Celery) -> None:
    for name, _ in TASKS:
        task = app.tasks[name]
        assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result) == (True, False, True)


def test_a_batch_is_predicted(run_task: Run, runner: FakeRunner) -> None:
    run_task(PREDICT_TASK, BATCH.to_json())

    assert runner.calls == [("predict", BATCH)]
    assert runner.traces == [None]


def test_the_batches_of_a_chain_are_predicted_one_after_the_other(run_task: Run, runner: FakeRunner) -> None:
    further = BATCH.model_copy(update={"batch": 8})
    runner.chain.taken = [Batch(further, {"0": {}})]

    run_task(PREDICT_TASK, BATCH.to_json(), headers={"id": "1"}, routing_key="interactive")

    assert runner.chain.runs == [("interactive", "1")]
    assert runner.calls == [("predict", BATCH), ("predict", further)]
    assert runner.traces == [None, {"0": {}}]


@pytest.mark.parametrize(("name", "message"), TASKS)
def test_the_soft_time_limit_strikes_within_a_task_only(
    run_task: Run, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, name: str, message: Message
) -> None:
    interrupted: list[str] = []

    def strike(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
        except SoftTimeLimitExceeded:
            interrupted.append(name)
            raise

    for method in ("predict", "run_jobs", "shadow"):
        monkeypatch.setattr(runner, method, strike)
    before = signal.getsignal(signal.SIGUSR1)

    try:
        run_task(name, message.to_json())
        # The main process did not know yet that the task had ended.
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert interrupted == [name]


def test_a_batch_of_a_chain_fails_alone(run_task: Run, runner: FakeRunner) -> None:
    further = BATCH.model_copy(update={"batch": 8})
    runner.chain.taken = [Batch(further, None)]
    runner.failure = SoftTimeLimitExceeded()

    run_task(PREDICT_TASK, BATCH.to_json())

    failures = [call for call in runner.calls if call[0] == "fail_calls"]
    assert failures == [("fail_calls", BATCH, "time_limit"), ("fail_calls", further, "time_limit")]


def test_the_traces_of_a_batch_are_in_its_entrys_header(run_task: Run, runner: FakeRunner) -> None:
    traces = {"0": {"traceparent": "00-1-2-01"}}

    run_task(PREDICT_TASK, BATCH.to_json(), headers={"traces": traces})

    assert runner.traces == [traces]


@pytest.mark.parametrize(
    ("delivery_info", "redelivered"), [({}, False), ({"redelivered": False}, False), ({"redelivered": True}, True)]
)
def test_jobs_are_run_and_told_if_they_come_again(
    run_task: Run, runner: FakeRunner, delivery_info: dict[str, Any], redelivered: bool
) -> None:
    run_task(RUN_JOBS_TASK, JOBS.to_json(), **delivery_info)

    assert runner.calls == [("run_jobs", JOBS, redelivered, "bulk.m")]


def test_rows_go_to_a_version_on_trial(run_task: Run, runner: FakeRunner) -> None:
    run_task(SHADOW_TASK, SHADOW.to_json())

    assert runner.calls == [("shadow", SHADOW, "bulk.m")]


def test_nobody_waits_for_a_trial_that_ran_out_of_time(run_task: Run, runner: FakeRunner) -> None:
    runner.failure = SoftTimeLimitExceeded()

    run_task(SHADOW_TASK, SHADOW.to_json())

    assert runner.calls == [("shadow", SHADOW, "bulk.m")]


@pytest.mark.parametrize(("name", "message"), TASKS[:2])
def test_the_soft_time_limit_becomes_an_answer(run_task: Run, runner: FakeRunner, name: str, message: Message) -> None:
    runner.failure = SoftTimeLimitExceeded()

    run_task(name, message.to_json())

    answer = ("fail_calls", message) if name == PREDICT_TASK else ("fail_jobs",)
    assert runner.calls[1:] == [(*answer, "time_limit")]


class Unspeakable(Exception):
    """An exception that can't be shown, or sent to another process."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __str__(self) -> str:
        raise SystemExit("shown")

    __repr__ = __str__


@pytest.mark.parametrize(("name", "message"), TASKS)
@pytest.mark.parametrize(
    "failure",
    [
        *(ZeroDivisionError(), MemoryError(), RecursionError(), Unspeakable(), StopIteration()),
        *(SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException()),
        *(Ignore(), Reject(requeue=True), Retry(), WorkerShutdown(0), WorkerTerminate(1)),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_any_other_exception_becomes_an_answer(
    run_task: Run,
    runner: FakeRunner,
    caplog: pytest.LogCaptureFixture,
    name: str,
    message: Message,
    failure: BaseException,
) -> None:
    runner.failure = failure

    run_task(name, message.to_json())

    answers: dict[str, list[Any]] = {
        PREDICT_TASK: [("fail_calls", message)],
        RUN_JOBS_TASK: [("fail_jobs",)],
        SHADOW_TASK: [],
    }
    assert runner.calls[1:] == [(*answer, "prediction_failed") for answer in answers[name]]
    assert f"a batch failed: {type(failure).__name__}" in caplog.text


@pytest.mark.parametrize(("name", "message"), TASKS)
def test_without_redis_there_is_no_answer(run_task: Run, runner: FakeRunner, name: str, message: Message) -> None:
    runner.failure = redis.ConnectionError()

    with pytest.raises(redis.ConnectionError):
        run_task(name, message.to_json())

    assert len(runner.calls) == 1


@pytest.mark.parametrize(("name", "message"), TASKS)
def test_a_child_that_a_signal_ends_ends(
    run_task: Run, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, name: str, message: Message
) -> None:
    monkeypatch.setattr(billiard.common, "_should_have_exited", [True])
    runner.failure = SystemExit(0)

    with pytest.raises(SystemExit):
        run_task(name, message.to_json())

    assert len(runner.calls) == 1


@pytest.mark.parametrize("name", [name for name, _ in TASKS])
@pytest.mark.parametrize(
    "payload",
    ["", "sesame", "null", "{}", '{"v":2,"jobs":"sesame"}', '{"v":1,"jobs":[]}', '{"v":2,"jobs":[],"sesame":1}'],
)
def test_what_can_not_be_read_is_dropped_and_not_shown(
    run_task: Run, runner: FakeRunner, caplog: pytest.LogCaptureFixture, name: str, payload: str
) -> None:
    with caplog.at_level(logging.ERROR):
        run_task(name, payload)

    assert runner.calls == []
    assert "can't be read" in caplog.text
    assert "sesame" not in caplog.text
