import json
import logging
from contextlib import suppress
from typing import Any
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import redis
from fakeredis import FakeRedis, FakeServer

from headrace.models.store import ModelStore
from shared.errors import PredictionError
from shared.observability.log_limit import LogLimit
from shared.queue import keys
from shared.queue.contract import BatchReply, Call, PredictMessage, RunJobsMessage, ShadowMessage
from shared.queue.job_scripts import script
from shared.queue.packed_rows import packed
from shared.queue.replies import REPLY_TTL_SECONDS
from tests.support.puppet import Act
from tests.unit.worker.conftest import OURS, publish_puppet
from tests.unit.worker.metrics.test_worker import samples
from worker.execution.batch_runner import LINES_PER_SECOND, BatchRunner
from worker.metrics import harmless
from worker.metrics.worker import WorkerMetrics
from worker.model.cache import PredictorCache

REPLY_TO = "headrace:replies:test"
LOW, HIGH = [-1.0, float(Act.ANSWER)], [1.0, float(Act.ANSWER)]
RAISING = [1.0, float(Act.RAISE)]


class Bench:
    """The batch runner of a pool child, and its Redis."""

    def __init__(self, store: ModelStore, broker: FakeServer) -> None:
        self.redis: Any = FakeRedis(server=broker)
        self.metrics = WorkerMetrics()
        self.cache = PredictorCache(store, 1_000_000_000, allow_list=OURS)
        self.cache.get("puppet", "v1")
        self.runner = BatchRunner("redis://", self.cache, self.metrics, lease_seconds=35, result_max_bytes=100_000)

    def message(self, *calls: list[Any], seconds_left: float = 5.0, **changes: Any) -> PredictMessage:
        now = self.runner.now()
        return PredictMessage(
            **{
                "batch": 7,
                "reply_to": REPLY_TO,
                "model": "puppet",
                "version": "v1",
                "calls": [Call(len(rows), now - 1, now + seconds_left) for rows in calls],
                "rows": [row for rows in calls for row in rows],
                **changes,
            }
        )

    def reply(self) -> BatchReply:
        """Return the only reply."""
        [(_, fields)] = self.redis.xrange(REPLY_TO)
        return BatchReply.model_validate_json(fields[b"reply"])

    def submit(self, job_id: str, rows: list[Any], model: str = "puppet", trace: str = "") -> None:
        names = [keys.JOBS_OPEN, keys.JOB_COUNTS, "bulk", keys.job(job_id), keys.job(job_id)]
        args = ["message", 100, 10, 3600, 600, 3, *[10**15] * 3]
        args += [job_id, model, "v1", json.dumps(rows), 1, "f", "", trace, 0]
        self.redis.register_script(script("submit"))(keys=names, args=args)

    def job(self, job_id: str) -> tuple[str, Any]:
        """Return status and outcome."""
        status, outcome = self.redis.hmget(keys.job(job_id), "status", "outcome")
        return status.decode(), outcome and json.loads(outcome)

    def counted(self, name: str) -> float:
        counts = samples(self.metrics.predictions, self.metrics.errors, self.metrics.queue_wait_seconds)
        return counts[name]

    def shadowed(self, shadow: str = "v2", primary: str = "v1", model: str = "puppet") -> dict[str, float]:
        """Return agreement -> rows."""
        counts = samples(self.metrics.shadow_rows)
        words = ("same", "different", "failed")
        return {word: counts[f"inference_shadow_rows_total/{word}/{model}/{shadow}/{primary}"] for word in words}


@pytest.fixture
def bench(puppet_store: ModelStore, broker: FakeServer) -> Bench:
    return Bench(puppet_store, broker)


# --- interactive


def test_every_call_of_a_batch_is_answered_in_one_reply(bench: Bench) -> None:
    bench.runner.predict(bench.message([LOW], [HIGH, LOW]))

    reply = bench.reply()
    assert reply.batch == 7
    assert reply.results == [
        {"predictions": ["low"], "probabilities": [[0.0, 1.0]]},
        {"predictions": ["high", "low"], "probabilities": [[1.0, 0.0], [0.0, 1.0]]},
    ]
    assert 0 < reply.compute_seconds < 1
    assert reply.started_at == pytest.approx(bench.runner.now(), abs=1)
    assert 0 < bench.redis.ttl(REPLY_TO) <= REPLY_TTL_SECONDS


def test_a_call_past_its_deadline_is_never_computed(bench: Bench) -> None:
    message = bench.message([RAISING], [HIGH])
    late, live = message.calls
    message = message.model_copy(update={"calls": [late._replace(deadline=bench.runner.now() - 0.001), live]})

    bench.runner.predict(message)

    assert bench.reply().results[0]["error"]["code"] == "deadline_exceeded"
    assert bench.reply().results[1]["predictions"] == ["high"]
    assert bench.counted("inference_predictions_total/puppet/error/v1") == 0
    assert bench.counted("inference_predictions_total/puppet/ok/v1") == 1


def test_an_answer_that_is_too_large_costs_its_own_call_only(bench: Bench) -> None:
    bench.runner.predict(bench.message([LOW] * 8000, [HIGH]))

    large, small = bench.reply().results
    assert large["error"]["code"] == "result_too_large"
    assert small["predictions"] == ["high"]


def test_answers_that_are_too_large_only_together_are_all_given(bench: Bench) -> None:
    bench.runner.predict(bench.message([LOW] * 3000, [HIGH] * 3000))

    assert [len(result["predictions"]) for result in bench.reply().results] == [3000, 3000]


def test_if_all_are_too_late_nothing_is_computed_and_all_are_told(bench: Bench) -> None:
    bench.runner.predict(bench.message([LOW], [HIGH], seconds_left=-1))

    assert [result["error"]["code"] for result in bench.reply().results] == ["deadline_exceeded"] * 2
    assert bench.reply().compute_seconds == 0


def test_a_version_that_can_not_be_loaded_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.runner.predict(bench.message([LOW], [HIGH], version="v9"))

    assert [result["error"]["code"] for result in bench.reply().results] == ["model_unavailable"] * 2
    assert "v9" in caplog.text


def test_a_flood_of_requests_for_it_does_not_flood_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5 * LINES_PER_SECOND):
        bench.runner.predict(bench.message([LOW], version="v9"))

    # The second may end in between.
    assert 0 < caplog.text.count("can't be loaded") < 3 * LINES_PER_SECOND


def test_rows_and_waits_are_counted(bench: Bench) -> None:
    bench.runner.predict(bench.message([LOW], [HIGH, RAISING]))

    assert bench.counted("inference_predictions_total/puppet/ok/v1") == 2
    assert bench.counted("inference_predictions_total/puppet/error/v1") == 1
    assert bench.counted("inference_errors_total/row_rejected/puppet/v1") == 1
    assert bench.counted("inference_queue_wait_seconds_count/interactive") == 2
    assert bench.counted("inference_queue_wait_seconds_sum/interactive") == pytest.approx(2, abs=0.5)


def test_a_readiness_probe_is_answered_and_counted_nowhere(bench: Bench) -> None:
    bench.runner.predict(bench.message([HIGH], probe=True))

    assert bench.reply().results[0]["predictions"] == ["high"]
    counts = samples(bench.metrics.predictions, bench.metrics.queue_wait_seconds, bench.metrics.batch_rows)
    assert set(counts.values()) <= {0}


def test_calls_that_ran_out_of_time_are_told(bench: Bench) -> None:
    bench.runner.fail_calls(bench.message([LOW], [HIGH]), PredictionError("time_limit", "too long"))

    assert [result["error"]["code"] for result in bench.reply().results] == ["time_limit"] * 2


def test_packed_rows_are_answered_like_others(bench: Bench) -> None:
    message = bench.message([LOW], [HIGH, RAISING], [HIGH, LOW], [LOW])
    calls = [*message.calls[:3], message.calls[3]._replace(deadline=0.0)]
    rows: Any = message.rows
    for sent in (rows, packed(rows)):
        bench.runner.predict(message.model_copy(update={"calls": calls, "rows": sent}))

    (_, plain), (_, unpacked) = bench.redis.xrange(REPLY_TO)
    results = BatchReply.from_json(plain[b"reply"]).results
    assert BatchReply.from_json(unpacked[b"reply"]).results == results
    assert results[1]["error"]["rows"] == [1]
    assert results[2]["predictions"] == ["high", "low"]
    assert results[3]["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize("rows", ["*", "AAAA", packed([[1.0]] * 3), [LOW], [LOW] * 3])
def test_a_batch_of_other_rows_than_its_calls_say_is_dropped(
    bench: Bench, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench.runner.predict(bench.message([LOW], [HIGH], rows=rows))

    assert bench.redis.xlen(REPLY_TO) == 0
    assert "dropped a batch" in caplog.text


@pytest.mark.parametrize("rows", ["", packed([LOW])])
@pytest.mark.parametrize("sizes", [[10**12], [10**30], [2, -1], [0, 1], [-1, 2], [0] * 3, []])
def test_a_batch_that_announces_more_rows_than_it_holds_is_dropped(
    bench: Bench, rows: str, sizes: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    calls = [Call(size, 0.0, 9e9) for size in sizes]

    bench.runner.predict(bench.message([LOW]).model_copy(update={"calls": calls, "rows": rows}))

    assert bench.redis.xlen(REPLY_TO) == 0
    assert "dropped a batch" in caplog.text


def test_an_answer_that_json_does_not_have_fails_its_own_call_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit("a", [LOW])
    bench.submit("b", [HIGH])
    predictor = bench.cache.get("puppet", "v1")
    predict = predictor.predict

    def spoilt(rows: list[Any], sizes: list[int]) -> Any:
        answer = predict(rows, sizes)
        answer.predictions[0] = object()
        return answer

    monkeypatch.setattr(predictor, "predict", spoilt)
    bench.runner.predict(bench.message([LOW], [HIGH]))
    bench.runner.run_jobs(RunJobsMessage(jobs=["a", "b"]), redelivered=False, queue="bulk")

    bad, good = bench.reply().results
    assert (bad["error"]["code"], good["predictions"]) == ("prediction_failed", ["high"])
    assert [bench.job(each)[0] for each in "ab"] == ["failed", "succeeded"]


# --- jobs


def test_jobs_of_one_task_run_together_and_end_apart(bench: Bench) -> None:
    bench.submit("a", [LOW])
    bench.submit("b", [RAISING])
    bench.submit("c", [HIGH, LOW])

    bench.runner.run_jobs(RunJobsMessage(jobs=["a", "b", "c"]), redelivered=False, queue="bulk")

    outputs = [["prediction", ["high", "low"]]]
    assert bench.job("a") == (
        "succeeded",
        {"predictions": ["low"], "probabilities": [[0.0, 1.0]], "outputs": outputs},
    )
    status, outcome = bench.job("b")
    assert (status, outcome["error"]["code"], outcome["error"]["rows"]) == ("failed", "row_rejected", [0])
    assert bench.job("c")[1]["predictions"] == ["high", "low"]
    assert bench.redis.hgetall(keys.JOB_COUNTS)[b"row_rejected"] == b"1"
    assert bench.redis.zcard(keys.JOBS_OPEN) == 0
    assert bench.counted("inference_queue_wait_seconds_count/bulk") == 3


def test_jobs_of_several_models_may_come_in_one_task(bench: Bench) -> None:
    bench.submit("a", [[3.0, 0.0]], model="numbers")
    bench.submit("b", [HIGH])
    bench.submit("c", [HIGH], model="unknown")

    bench.runner.run_jobs(RunJobsMessage(jobs=["a", "b", "c"]), redelivered=False, queue="bulk")

    assert bench.job("a")[1] == {"predictions": [1.5], "probabilities": None, "outputs": [["prediction", None]]}
    assert bench.job("b")[1]["predictions"] == ["high"]
    status, outcome = bench.job("c")
    assert (status, outcome["error"]["code"]) == ("failed", "model_unavailable")


def test_what_may_not_run_is_left_alone(bench: Bench) -> None:
    bench.submit("running", [LOW])
    bench.submit("cancelled", [LOW])
    start = bench.redis.register_script(script("start"))
    names = [keys.JOBS_OPEN, keys.JOB_COUNTS]
    start(keys=[*names, keys.job("running")], args=[keys.JOBS_ENDED, 35, 0, "running"])
    cancel = bench.redis.register_script(script("delete"))
    cancel(keys=[*names, keys.job("cancelled")], args=[keys.JOBS_ENDED, "cancelled", ""])
    jobs = RunJobsMessage(jobs=["running", "cancelled", "unheard-of"])

    bench.runner.run_jobs(jobs, redelivered=False, queue="bulk")

    assert bench.job("running") == ("running", None)
    assert bench.job("cancelled") == ("cancelled", {})
    assert not bench.redis.exists(keys.job("unheard-of"))

    bench.runner.run_jobs(jobs, redelivered=True, queue="bulk")

    assert bench.job("running")[0] == "succeeded", "the broker says that the first attempt is over"


def test_a_job_that_was_cancelled_while_it_ran_stays_cancelled(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit("a", [LOW])
    predictor = bench.cache.get("puppet", "v1")
    predict = predictor.predict

    def cancelled_meanwhile(rows: list[Any], sizes: list[int]) -> Any:
        cancel = bench.redis.register_script(script("delete"))
        cancel(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, keys.job("a")], args=[keys.JOBS_ENDED, "a", ""])
        return predict(rows, sizes)

    monkeypatch.setattr(predictor, "predict", cancelled_meanwhile)
    with caplog.at_level(logging.INFO):
        bench.runner.run_jobs(RunJobsMessage(jobs=["a"]), redelivered=False, queue="bulk")

    assert bench.job("a") == ("cancelled", {})
    assert "1 of 1 jobs had their outcome already" in caplog.text


# --- counts and traces


@pytest.mark.parametrize("counted", ["model", "queue_wait_seconds", "job_seconds"])
def test_counts_that_fail_cost_no_answer_and_no_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, counted: str
) -> None:
    broken = Mock(side_effect=TypeError("unhashable"), **{"labels.side_effect": TypeError("unhashable")})
    monkeypatch.setattr(bench.metrics, counted, broken)
    monkeypatch.setattr(harmless, "_limit", LogLimit(10, 3600.0))
    bench.submit("a", [LOW])
    bench.submit("b", [[3.0, 0.0]], model="numbers")
    trial: Any = {"model": "puppet", "version": "v1", "primary": "v0", "rows": [LOW], "predictions": ["low"]}

    for _ in range(20):
        bench.runner.run_jobs(RunJobsMessage(jobs=["a", "b"]), redelivered=False, queue="bulk")
        bench.runner.predict(bench.message([LOW]))
        bench.runner.shadow(ShadowMessage(**trial), "bulk")

    assert [bench.job(each)[0] for each in "ab"] == ["succeeded", "succeeded"]
    replies = [BatchReply.model_validate_json(fields[b"reply"]) for _, fields in bench.redis.xrange(REPLY_TO)]
    assert [reply.results[0]["predictions"] for reply in replies] == [["low"]] * 20
    lines = [record for record in caplog.records if "not counted or traced: TypeError" in record.getMessage()]
    assert 2 <= len(lines) <= 10


@pytest.mark.parametrize("step", ["carriers_of", "carriers_of_jobs", "start_batch"])
def test_spans_that_fail_cost_no_answer_and_no_job(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    tracing = MagicMock(**{f"{step}.side_effect": ValueError})
    if step == "start_batch":
        tracing.carriers_of.return_value, tracing.carriers_of_jobs.return_value = {0: {"a": "b"}}, {"a": {"a": "b"}}
    monkeypatch.setattr(bench.runner, "_tracing", tracing)
    bench.submit("a", [LOW])

    bench.runner.run_jobs(RunJobsMessage(jobs=["a"]), redelivered=False, queue="bulk")
    bench.runner.predict(bench.message([LOW]), {"0": {"a": "b"}})

    assert bench.job("a")[0] == "succeeded"
    assert bench.reply().results[0]["predictions"] == ["low"]


def test_a_model_that_answers_dictionaries_fails_no_job_of_another_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator: Any = bench.cache.get("labels", "v1")._estimator
    monkeypatch.setattr(estimator, "predict", lambda rows: np.array([{"a": 1}] * len(rows), dtype=object))
    bench.submit("bad", [LOW], model="labels")
    bench.submit("good", [HIGH])

    bench.runner.run_jobs(RunJobsMessage(jobs=["bad", "good"]), redelivered=False, queue="bulk")

    status, outcome = bench.job("bad")
    assert (status, outcome["error"]["code"]) == ("failed", "prediction_failed")
    assert bench.job("good")[0] == "succeeded"
    assert bench.counted("inference_predictions_total/labels/error/v1") == 1


# --- trials


def test_a_version_on_trial_is_compared_row_by_row_and_answers_nobody(bench: Bench, puppet_store: ModelStore) -> None:
    publish_puppet(puppet_store, "puppet", "v2")
    rows = [LOW, HIGH, HIGH, RAISING]

    bench.runner.shadow(
        ShadowMessage(
            model="puppet", version="v2", primary="v1", rows=rows, predictions=["low", "high", "low", "high"]
        ),
        "bulk",
    )

    assert bench.shadowed() == {"same": 2, "different": 1, "failed": 1}
    assert bench.redis.keys() == []
    counts = samples(bench.metrics.predictions, bench.metrics.outputs, bench.metrics.feature_bins, bench.metrics.errors)
    assert set(counts.values()) == {0}, "a comparison is not traffic"
    confidence = samples(bench.metrics.confidence)
    assert confidence["inference_prediction_confidence_count/puppet/v2"] == 3
    assert samples(bench.metrics.compute_seconds)["inference_compute_seconds_count/puppet/v2"] == 1


def test_a_version_on_trial_that_can_not_be_loaded_fails_on_every_row(bench: Bench) -> None:
    bench.runner.shadow(
        ShadowMessage(model="puppet", version="v9", primary="v1", rows=[LOW, HIGH], predictions=["low", "high"]),
        "bulk",
    )

    assert bench.shadowed("v9") == {"same": 0, "different": 0, "failed": 2}


@pytest.mark.parametrize(("version", "ending"), [("v1", None), ("v9", None), ("v1", SystemExit)])
def test_the_next_rows_may_come_when_these_are_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, version: str, ending: type[BaseException] | None
) -> None:
    if ending is not None:
        monkeypatch.setattr(bench.runner, "_count_shadow", MagicMock(side_effect=ending))
    lock = keys.shadow_lock("bulk.puppet")
    bench.redis.set(lock, "token", px=35_000)
    message = ShadowMessage(model="puppet", version=version, primary="v0", rows=[LOW], predictions=["low"])

    with suppress(SystemExit):
        bench.runner.shadow(message, "bulk.puppet")

    assert not bench.redis.exists(lock)


def test_numbers_on_trial_are_compared_too(bench: Bench) -> None:
    rows = [[3.0, 0.0], [4.0, 0.0], [5.0, float(Act.ANSWER_NAN)]]

    bench.runner.shadow(
        ShadowMessage(model="numbers", version="v1", primary="v0", rows=rows, predictions=[1.5, 2.5, 2.5]),
        "bulk",
    )

    assert bench.shadowed("v1", "v0", "numbers") == {"same": 1, "different": 1, "failed": 1}


# --- the start


def test_warming_up_runs_every_model_and_makes_its_metrics(bench: Bench) -> None:
    bench.runner.warm_up()

    assert samples(bench.metrics.model_loaded)["inference_model_loaded_timestamp_seconds/puppet/v1"] > 1e9
    assert bench.counted("inference_predictions_total/puppet/ok/v1") == 0, "samples are not traffic"


def test_a_broker_that_is_away_does_not_keep_a_child_from_starting(bench: Bench, broker: FakeServer) -> None:
    broker.connected = False

    bench.runner.warm_up()

    with pytest.raises(redis.ConnectionError):
        bench.runner.now()


def test_the_brokers_clock_is_not_asked_for_every_batch(
    bench: Bench, broker: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.execution.batch_runner.CALIBRATION_SECONDS", 60.0)
    bench.runner.now()
    broker.connected = False

    bench.runner.now()
