"""What one pool child holds while it lives: predictors, metrics, and its own connection to the broker."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
import redis

from shared import keys
from shared.clock import BrokerClock
from shared.contract import BatchReply, ErrorCode, JobStatus, Lane, PredictMessage, RunJobsMessage, ShadowMessage
from shared.errors import ModelError, PredictionError
from shared.job_scripts import script
from worker.batch import Result, expired, failure, predict_calls
from worker.connection import connect
from worker.metrics import WorkerMetrics
from worker.predictor_cache import PredictorCache

logger = logging.getLogger(__name__)

REPLY_TTL_SECONDS = 120
"""How long replies outlive a gateway that is gone."""

REPLIES_KEPT = 10_000
"""Batches in a reply stream at most; the gateway trims what it has read."""

CALIBRATION_SECONDS = 1.0
"""Age at which the reading of the broker's clock is renewed."""


class Child:
    """Runs the tasks."""

    def __init__(
        self, redis_url: str, predictors: PredictorCache, metrics: WorkerMetrics, lease_seconds: float
    ) -> None:
        self._predictors = predictors
        self._metrics = metrics
        self._lease_seconds = lease_seconds
        self._clock = BrokerClock()
        self._calibrated_at = float("-inf")
        # Outcomes are worth waiting for a restarting broker; replies soon have nobody who waits.
        self._redis = connect(redis_url, retries=6)
        self._start_jobs = self._redis.register_script(script("start"))
        self._finish_jobs = self._redis.register_script(script("finish"))

    def warm_up(self) -> None:
        """Run every loaded estimator once in this process, make its metrics, connect and read the broker's clock."""
        with suppress(redis.RedisError):
            # The first command pays for the connection: too slow to read a clock by.
            self._redis.ping()
            self.now()
        for predictor in self._predictors.loaded():
            predictor.check_samples()
            self._metrics.model(predictor.manifest).loaded(time.time())

    def now(self) -> float:
        """The broker's time; asks for it when the last reading is old."""
        asked = time.monotonic()
        if asked - self._calibrated_at > CALIBRATION_SECONDS:
            reply = self._redis.time()
            self._clock.calibrate(reply, asked, time.monotonic())
            self._calibrated_at = asked
        return self._clock.now()

    def predict(self, message: PredictMessage) -> None:
        """Answer a batch of interactive calls, leaving out those whose deadline has passed."""
        started_at = self.now()
        calls, start = [], 0
        for call in message.calls:
            calls.append(message.rows[start : start + call.n_rows])
            start += call.n_rows
        live = [i for i, call in enumerate(message.calls) if call.deadline > started_at]
        results = [expired() for _ in calls]
        compute_seconds = 0.0
        if live:
            answers, compute_seconds = self._predict(
                message.model, message.version, [calls[i] for i in live], message.canary
            )
            for i, answer in zip(live, answers, strict=True):
                results[i] = answer
        self._reply(message, started_at, compute_seconds, results)
        if not message.canary:
            waits = self._metrics.queue_wait_seconds.labels(Lane.INTERACTIVE.value)
            for call in message.calls:
                waits.observe(max(0.0, started_at - call.accepted_at))

    def run_jobs(self, message: RunJobsMessage, redelivered: bool) -> None:
        """Start the jobs that may run, predict them together per model version, and write their outcomes."""
        started_at = self.now()
        records = [keys.job(job) for job in message.jobs]
        answers = self._start_jobs(
            keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *records],
            args=[keys.JOBS_ENDED, self._lease_seconds, int(redelivered), *message.jobs],
        )
        by_version: dict[tuple[str, str], list[tuple[str, list[Any]]]] = {}
        waits = self._metrics.queue_wait_seconds.labels(Lane.BULK.value)
        for job, answer in zip(message.jobs, answers, strict=True):
            if answer is not None:
                model, version, rows, accepted_at, _attempt = answer
                by_version.setdefault((model.decode(), version.decode()), []).append((job, orjson.loads(rows)))
                waits.observe(max(0.0, started_at - float(accepted_at)))
        for (model_name, version_name), jobs in by_version.items():
            results, compute_seconds = self._predict(model_name, version_name, [rows for _, rows in jobs])
            self._name_outputs(model_name, version_name, results)
            self._finish([job for job, _ in jobs], results, compute_seconds)

    def _name_outputs(self, model: str, version: str, results: Sequence[Result]) -> None:
        """Write into results what they mean, so that an outcome can be read whatever became of the version."""
        fresh = [result for result in results if "error" not in result]
        if fresh:
            outputs = self._predictors.get(model, version).manifest.outputs
            for result in fresh:
                result["outputs"] = [(output.name, output.classes) for output in outputs]

    def shadow(self, message: ShadowMessage) -> None:
        """Predict rows with a version on trial, and count where it agrees with the version that answered them."""
        counts = self._metrics.shadow(message.model, message.primary, message.version)
        try:
            predictor = self._predictors.get(message.model, message.version)
        except ModelError:
            counts.failed.inc(len(message.rows))
            return
        answer = predictor.predict(message.rows)
        metrics = self._metrics.model(predictor.manifest)
        metrics.compute_seconds.observe(answer.compute_seconds)
        metrics.count_confidence(answer.probabilities)
        counts.failed.inc(len(answer.failures))
        pairs = zip(answer.predictions, message.predictions, strict=True)
        same = sum(said == expected for i, (said, expected) in enumerate(pairs) if i not in answer.failures)
        counts.same.inc(same)
        counts.different.inc(len(message.rows) - len(answer.failures) - same)

    def fail_jobs(self, message: RunJobsMessage, error: PredictionError) -> None:
        """End jobs that can't be computed; those that have an outcome keep it."""
        self._finish(message.jobs, [failure(error)] * len(message.jobs), 0.0)

    def fail_calls(self, message: PredictMessage, error: PredictionError) -> None:
        """Answer calls that can't be computed."""
        self._reply(message, self._clock.now(), 0.0, [failure(error)] * len(message.calls))

    def _predict(
        self, model: str, version: str, calls: Sequence[list[Any]], canary: bool = False
    ) -> tuple[list[Result], float]:
        try:
            predictor = self._predictors.get(model, version)
        except ModelError as error:
            logger.error("%s %s can't be loaded: %s", model, version, error)
            reason = PredictionError(ErrorCode.MODEL_UNAVAILABLE.value, f"{model} {version} can't be loaded")
            return [failure(reason)] * len(calls), 0.0
        if canary:
            results, answer = predict_calls(predictor, calls)
            return results, answer.compute_seconds
        metrics = self._metrics.model(predictor.manifest)
        rows = [row for call in calls for row in call]
        self._metrics.batches_in_progress.inc()
        try:
            results, answer = predict_calls(predictor, calls)
        finally:
            self._metrics.batches_in_progress.dec()
        metrics.compute_seconds.observe(answer.compute_seconds)
        metrics.batch_rows.observe(len(rows))
        metrics.count_inputs(rows)
        metrics.count_outputs(answer.predictions)
        metrics.count_confidence(answer.probabilities)
        for row_error in answer.failures.values():
            metrics.count_error(row_error.code, 1)
        return results, answer.compute_seconds

    def _reply(
        self, message: PredictMessage, started_at: float, compute_seconds: float, results: Sequence[Result]
    ) -> None:
        reply = BatchReply(
            batch=message.batch, started_at=started_at, compute_seconds=compute_seconds, results=list(results)
        )
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(message.reply_to, {"reply": reply.to_json()}, maxlen=REPLIES_KEPT, approximate=True)
            pipe.expire(message.reply_to, REPLY_TTL_SECONDS)
            pipe.execute()

    def _finish(self, jobs: Sequence[str], results: Sequence[Result], compute_seconds: float) -> None:
        args: list[Any] = [keys.JOBS_ENDED]
        for job, result in zip(jobs, results, strict=True):
            status = JobStatus.FAILED if "error" in result else JobStatus.SUCCEEDED
            args += [job, status.value, orjson.dumps(result), compute_seconds]
        written = self._finish_jobs(keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *map(keys.job, jobs)], args=args)
        refused = written.count(0)
        if refused:
            logger.info("%d of %d jobs had their outcome already", refused, len(jobs))
