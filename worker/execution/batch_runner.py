"""What one pool child holds while it lives: predictors, metrics, and its own connection to the broker."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate, compress
from typing import TYPE_CHECKING

import redis

from headrace.errors import ModelError
from shared.errors import PredictionError
from shared.observability.log_context import bound
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, ErrorCode, Lane, PredictMessage, RunJobsMessage, ShadowMessage
from shared.queue.replies import REPLIES_KEPT, REPLY_TTL_SECONDS, Result, failure
from worker.execution.jobs import JobRuns, StartedJob
from worker.execution.results import expired, predict_calls, too_large
from worker.metrics.worker import WorkerMetrics
from worker.model.cache import PredictorCache
from worker.model.rows import Rows, joined, unpacked
from worker.redis_client import connect

if TYPE_CHECKING:
    from shared.observability.tracing import Carrier
    from worker.execution.tracing import BatchTrace, ChildTracing

logger = logging.getLogger(__name__)

CALIBRATION_SECONDS = 1.0
"""Age at which the reading of the broker's clock is renewed."""


class BatchRunner:
    """Runs the tasks."""

    def __init__(
        self,
        redis_url: str,
        predictors: PredictorCache,
        metrics: WorkerMetrics,
        lease_seconds: float,
        result_max_bytes: int,
    ) -> None:
        self._predictors = predictors
        self._metrics = metrics
        self._clock = BrokerClock()
        self._calibrated_at = float("-inf")
        # Outcomes are worth waiting for a restarting broker; replies soon have nobody who waits.
        self._redis = connect(redis_url, retries=6)
        self._jobs = JobRuns(self._redis, lease_seconds, result_max_bytes)
        self._result_max_bytes = result_max_bytes
        self._tracing: ChildTracing | None = None

    def start_tracing(self) -> None:
        """Export spans from now on; a thread does that, so this must come after the fork."""
        # Not above: nothing of OpenTelemetry's is loaded if nobody asked for it.
        from worker.execution.tracing import ChildTracing

        self._tracing = ChildTracing(self._clock.now)

    def stop_tracing(self) -> None:
        """Export what is left; takes up to two seconds."""
        if self._tracing is not None:
            self._tracing.close()

    def warm_up(self) -> None:
        """Run every loaded estimator once in this process, make its metrics, connect and read the broker's clock."""
        with suppress(redis.RedisError):
            # The first command pays for the connection: too slow to read a clock by.
            self._redis.ping()
            self.now()
        predictors = self._predictors.loaded()
        for predictor in predictors:
            predictor.check_samples()
        self._metrics.loaded(predictor.manifest for predictor in predictors)

    def now(self) -> float:
        """The broker's time; asks for it when the last reading is old."""
        asked = time.monotonic()
        if asked - self._calibrated_at > CALIBRATION_SECONDS:
            reply = self._redis.time()
            self._clock.calibrate(reply, asked, time.monotonic())
            self._calibrated_at = asked
        return self._clock.now()

    def predict(self, message: PredictMessage, traces: object = None) -> None:
        """Answer a batch of interactive calls, leaving out those whose deadline has passed.

        `traces` is the queue entry's header of that name, as it came.
        """
        started_at = self.now()
        carriers: Sequence[Carrier] = ()
        if traces and self._tracing is not None:
            live = {at for at, call in enumerate(message.calls) if call.deadline > started_at}
            carriers = [carrier for at, carrier in self._tracing.carriers_of(traces) if at in live]
        with self._about(Lane.INTERACTIVE.value, message.model, message.version, carriers, started_at) as trace:
            self._predict_calls(message, started_at, trace)

    def _predict_calls(self, message: PredictMessage, started_at: float, trace: "BatchTrace | None") -> None:
        try:
            rows = unpacked(message.rows, sum(call.n_rows for call in message.calls))
        except ValueError:
            logger.error("dropped a batch whose rows can't be read")
            return
        live = [call.deadline > started_at for call in message.calls]
        answers: Iterator[Result] = iter(())
        compute_seconds, count = 0.0, _count_nothing
        if any(live):
            sizes = [call.n_rows for call in message.calls]
            if not all(live):
                ends = [*accumulate(sizes)]
                rows = joined([rows[end - n : end] for n, end in compress(zip(sizes, ends, strict=True), live)])
                sizes = [*compress(sizes, live)]
            predicted, compute_seconds, count = self._predict(
                message.model, message.version, rows, sizes, trace, message.probe
            )
            answers = iter(predicted)
        results = [next(answers) if is_live else expired() for is_live in live]
        try:
            self._reply(message, started_at, compute_seconds, results)
            if trace is not None:
                trace.answered()
        finally:
            # Nobody waits for the counts, so they come after the answer.
            count()
        if not message.probe:
            waits = self._metrics.queue_wait_seconds.labels(Lane.INTERACTIVE.value)
            for call in message.calls:
                if call.first:
                    waits.observe(max(0.0, started_at - call.accepted_at))

    def run_jobs(self, message: RunJobsMessage, redelivered: bool, queue: str) -> None:
        """Start the jobs that may run, predict them together per model version, and write their outcomes.

        A message that came for the first time brings others along that wait in the same queue.
        """
        jobs = self._jobs.start(message.jobs, redelivered)
        claimed: list[StartedJob] = []
        # A job that was attempted before runs alone: it may be the one that kills its process.
        if jobs and not redelivered and all(job.attempt == 1 for job in jobs):
            claimed = self._jobs.claim(queue)
        by_version: dict[tuple[str, str], list[StartedJob]] = {}
        waits = self._metrics.queue_wait_seconds.labels(Lane.BULK.value)
        for job in (*jobs, *claimed):
            by_version.setdefault((job.model, job.version), []).append(job)
            # As its record says it.
            waits.observe(max(0.0, job.started_at - job.accepted_at))
        for (model, version), together in by_version.items():
            self._run_together(model, version, together, queue)
        self._jobs.end_task()

    def _run_together(self, model: str, version: str, jobs: Sequence[StartedJob], queue: str) -> None:
        ids = [job.id for job in jobs]
        carriers = self._tracing.carriers_of_jobs(jobs) if self._tracing is not None else {}
        with self._about(queue, model, version, [*carriers.values()], self._clock.now(), job_ids=ids) as trace:
            rows, sizes = joined([job.rows for job in jobs]), [len(job.rows) for job in jobs]
            results, compute_seconds, count = self._predict(model, version, rows, sizes, trace)
            self._name_outputs(model, version, results)
            try:
                ended = self._jobs.finish(ids, results, compute_seconds)
                if trace is not None:
                    trace.answered()
            finally:
                count()
        self._metrics.count_jobs(model, [(job.accepted_at, at) for job, at in zip(jobs, ended, strict=True)])
        if self._tracing is not None:
            for job in jobs:
                if job.id in carriers:
                    self._tracing.waited(queue, carriers[job.id], job)

    @contextmanager
    def _about(
        self, queue: str, model: str, version: str, carriers: "Sequence[Carrier]", at: float, **fields: list[str]
    ) -> "Iterator[BatchTrace | None]":
        """What a batch is about, for log and trace."""
        if not carriers or self._tracing is None:
            with bound(model=model, version=version, **fields):
                yield None
            return
        trace = self._tracing.batch(queue, model, version, carriers, at)
        with bound(model=model, version=version, **trace.ids, **fields), trace:
            yield trace

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
        metrics.count_confidence(answer.confidence)
        counts.failed.inc(len(answer.failures))
        pairs = zip(answer.predictions, message.predictions, strict=True)
        same = sum(said == expected for i, (said, expected) in enumerate(pairs) if i not in answer.failures)
        counts.same.inc(same)
        counts.different.inc(len(message.rows) - len(answer.failures) - same)

    def jobs_out_of_time(self, error: PredictionError) -> None:
        """The jobs of this task ran longer than its soft time limit: one alone ends, several run again one by one."""
        self._jobs.out_of_time(failure(error))

    def fail_calls(self, message: PredictMessage, error: PredictionError) -> None:
        """Answer calls that can't be computed."""
        self._reply(message, self._clock.now(), 0.0, [failure(error)] * len(message.calls))

    def _predict(
        self,
        model: str,
        version: str,
        rows: Rows,
        sizes: Sequence[int],
        trace: "BatchTrace | None" = None,
        probe: bool = False,
    ) -> tuple[list[Result], float, Callable[[], None]]:
        """One result per call, the seconds inside the estimator, and what counts them, to be called afterwards."""
        try:
            predictor = self._predictors.get(model, version)
        except ModelError as error:
            logger.error("%s %s can't be loaded: %s", model, version, error)
            reason = PredictionError(ErrorCode.MODEL_UNAVAILABLE.value, f"{model} {version} can't be loaded")
            return [failure(reason)] * len(sizes), 0.0, _count_nothing
        if probe:
            results, answer = predict_calls(predictor, rows, sizes)
            return results, answer.compute_seconds, _count_nothing
        self._metrics.batches_in_progress.inc()
        began_at = self._clock.now()
        try:
            results, answer = predict_calls(predictor, rows, sizes)
        finally:
            self._metrics.batches_in_progress.dec()
        if trace is not None:
            trace.computed(began_at, answer.compute_seconds, len(rows))

        def count() -> None:
            metrics = self._metrics.model(predictor.manifest)
            metrics.compute_seconds.observe(answer.compute_seconds)
            metrics.batch_rows.observe(len(rows))
            metrics.count_inputs(rows)
            metrics.count_outputs(answer.predictions)
            metrics.count_confidence(answer.confidence)
            for row_error in answer.failures.values():
                metrics.count_error(row_error.code, 1)

        return results, answer.compute_seconds, count

    def _reply(
        self, message: PredictMessage, started_at: float, compute_seconds: float, results: Sequence[Result]
    ) -> None:
        reply = _reply_json(message, started_at, compute_seconds, results)
        if len(reply) > self._result_max_bytes:
            reply = _reply_json(message, started_at, compute_seconds, [too_large()] * len(results))
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(message.reply_to, {"reply": reply}, maxlen=REPLIES_KEPT, approximate=True)
            pipe.expire(message.reply_to, REPLY_TTL_SECONDS)
            pipe.execute()


def _reply_json(message: PredictMessage, started_at: float, compute_seconds: float, results: Sequence[Result]) -> str:
    return BatchReply(
        batch=message.batch, started_at=started_at, compute_seconds=compute_seconds, results=list(results)
    ).to_json()


def _count_nothing() -> None:
    """What was not predicted, or is no traffic."""
