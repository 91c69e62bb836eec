"""The batch runner of a pool child, with the child's predictors, metrics and connection to the broker."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import redis

from headrace.errors import ModelError
from headrace.models.manifest import Manifest
from shared.errors import PredictionError
from shared.observability.log_context import bound
from shared.observability.log_limit import LogLimit
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, ErrorCode, Lane, PredictMessage, RunJobsMessage, ShadowMessage
from shared.queue.replies import Result, failure
from worker.execution.chain import NO_CHAINS, BatchChain, ChainOptions
from worker.execution.jobs import JobRuns, StartedJob
from worker.execution.results import BatchResult, expired, predict_calls, sendable
from worker.metrics.harmless import harmless
from worker.metrics.worker import WorkerMetrics
from worker.model.cache import PredictorCache
from worker.model.predictions import Predictions
from worker.model.rows import Rows, join_rows, split_rows, unpack_rows
from worker.redis_client import connect

if TYPE_CHECKING:
    from shared.observability.tracing import Carrier
    from worker.execution.tracing import BatchTrace, ChildTracing

logger = logging.getLogger(__name__)

CALIBRATION_SECONDS = 1.0
"""Age at which the reading of the broker's clock is renewed, in seconds."""

LINES_PER_SECOND = 10
"""Log lines about versions that can't be loaded, which callers may ask for again and again."""


class BatchRunner:
    """Predicts the batches of one pool child, and writes their replies and outcomes to Redis."""

    def __init__(
        self,
        redis_url: str,
        predictors: PredictorCache,
        metrics: WorkerMetrics,
        lease_seconds: float,
        result_max_bytes: int,
        chain_options: ChainOptions = NO_CHAINS,
    ) -> None:
        self._predictors = predictors
        self._metrics = metrics
        self._clock = BrokerClock()
        self._calibrated_at = float("-inf")
        # The retries outlast a restart of the broker: outcomes of jobs must not be lost. The gateways give up waiting
        # for replies before that.
        self._redis = connect(redis_url, retries=6)
        self._jobs = JobRuns(self._redis, lease_seconds, result_max_bytes)
        self.chain = BatchChain(self._redis, chain_options)
        self._result_max_bytes = result_max_bytes
        self._tracing: ChildTracing | None = None
        self._unloaded_lines = LogLimit(LINES_PER_SECOND, 1.0)

    def start_tracing(self) -> None:
        """Export spans from now on; call it after the fork, because a thread exports them."""
        # Imported here, so that OpenTelemetry is loaded only where tracing is on.
        from worker.execution.tracing import ChildTracing

        self._tracing = ChildTracing(self._clock.now)

    def stop_tracing(self) -> None:
        """Export the remaining spans; takes up to two seconds."""
        if self._tracing is not None:
            self._tracing.close()

    def warm_up(self) -> None:
        """Connect, read the broker's clock, run every loaded estimator once in this process and make its metrics."""
        with suppress(redis.RedisError):
            # The first command includes opening the connection, which is too slow to calibrate a clock by.
            self._redis.ping()
            self.now()
        predictors = self._predictors.loaded()
        for predictor in predictors:
            predictor.check_samples()
        self._metrics.mark_loaded(predictor.manifest for predictor in predictors)

    def now(self) -> float:
        """Return the broker's time; ask the broker if the last reading is older than CALIBRATION_SECONDS."""
        asked_at = time.monotonic()
        if asked_at - self._calibrated_at > CALIBRATION_SECONDS:
            reply = self._redis.time()
            self._clock.calibrate(reply, asked_at, time.monotonic())
            self._calibrated_at = asked_at
        return self._clock.now()

    def predict(self, message: PredictMessage, traces: object = None) -> None:
        """Answer a batch of interactive calls; calls whose deadline has passed are not computed.

        Args:
            message: The batch.
            traces: The header `traces` of the queue entry, unchecked.
        """
        started_at = self.now()
        live = [position for position, call in enumerate(message.calls) if call.deadline > started_at]
        carriers: Sequence[Carrier] = ()
        if traces and self._tracing is not None:
            with harmless():
                by_position = self._tracing.carriers_of(traces)
                carriers = [by_position[position] for position in live if position in by_position]
        with self._log_and_trace(Lane.INTERACTIVE.value, message.model, message.version, carriers, started_at) as trace:
            self._answer(message, live, started_at, trace)

    def _answer(
        self, message: PredictMessage, live: Sequence[int], started_at: float, trace: "BatchTrace | None"
    ) -> None:
        """Predict the calls at the positions `live`, and reply to all calls of the batch."""
        sizes = [call.n_rows for call in message.calls]
        takes_bytes = [message.calls[position].takes_bytes for position in live]
        try:
            rows = unpack_rows(message.rows, sizes)
        except ValueError:
            logger.error("dropped a batch whose rows can't be read")
            return
        if len(live) < len(sizes):
            parts = split_rows(rows, sizes)
            rows, sizes = join_rows([parts[at] for at in live]), [sizes[at] for at in live]
        batch = BatchResult([])
        if live:
            batch = self._predict(message.model, message.version, rows, sizes, trace, message.probe, takes_bytes)
        live_results = dict(zip(live, batch.results, strict=True))
        results = [live_results.get(position) or expired() for position in range(len(message.calls))]
        try:
            self._reply(message, started_at, batch.compute_seconds, results)
            if trace is not None:
                trace.note_answered()
        finally:
            # Counted after the reply is out, so that the caller does not wait for it.
            if not message.probe:
                batch.count(self._metrics)
        if not message.probe:
            waits = (started_at - call.accepted_at for call in message.calls if call.first)
            self._metrics.count_waits(Lane.INTERACTIVE, waits)

    def fail_calls(self, message: PredictMessage, error: PredictionError) -> None:
        """Answer every call of a batch with an error."""
        self._reply(message, self._clock.now(), 0.0, [failure(error)] * len(message.calls))

    def _reply(
        self, message: PredictMessage, started_at: float, compute_seconds: float, results: Sequence[Result]
    ) -> None:
        try:
            reply = _reply_json(message, started_at, compute_seconds, results)
        except TypeError:
            reply = ""
        if not reply or len(reply) > self._result_max_bytes:
            # Each call by itself: a neighbour with a large or unreadable answer must not cost the others theirs.
            results = [sendable(each, self._result_max_bytes)[0] for each in results]
            reply = _reply_json(message, started_at, compute_seconds, results)
        self.chain.reply(message.reply_to, reply)

    def run_jobs(self, message: RunJobsMessage, redelivered: bool, queue: str) -> None:
        """Start the jobs that may run, predict them together per model version, and write their outcomes.

        Unless it was redelivered, a message also brings jobs of other messages that wait in the same queue.
        """
        jobs = self._jobs.start(message.jobs, redelivered)
        claimed: list[StartedJob] = []
        # A job that was attempted before runs alone: it may be the one that kills its process.
        if jobs and not redelivered and all(job.attempt == 1 for job in jobs):
            claimed = self._jobs.claim(queue)
        by_version: dict[tuple[str, str], list[StartedJob]] = {}
        for job in (*jobs, *claimed):
            by_version.setdefault((job.model, job.version), []).append(job)
        self._metrics.count_waits(Lane.BULK, (job.started_at - job.accepted_at for job in (*jobs, *claimed)))
        for (model, version), together in by_version.items():
            self._run_together(model, version, together, queue)
        self._jobs.end_task()

    def _run_together(self, model: str, version: str, jobs: Sequence[StartedJob], queue: str) -> None:
        ids = [job.id for job in jobs]
        self._jobs.note_predicted(ids)
        carriers: dict[str, Carrier] = {}
        if self._tracing is not None:
            with harmless():
                carriers = self._tracing.carriers_of_jobs(jobs)
        with self._log_and_trace(queue, model, version, [*carriers.values()], self._clock.now(), job_ids=ids) as trace:
            rows, sizes = join_rows([job.rows for job in jobs]), [len(job.rows) for job in jobs]
            batch = self._predict(model, version, rows, sizes, trace)
            try:
                ended = self._jobs.finish(ids, batch.with_outputs(), batch.compute_seconds)
                if trace is not None:
                    trace.note_answered()
            finally:
                batch.count(self._metrics)
        self._metrics.count_jobs(model, [(job.accepted_at, at) for job, at in zip(jobs, ended, strict=True)])
        if self._tracing is not None:
            for job in jobs:
                if job.id in carriers:
                    self._tracing.record_wait(queue, carriers[job.id], job)

    def fail_jobs(self, error: PredictionError) -> None:
        """Handle the early end of a task: a job that was predicted alone fails, others run again one by one."""
        self._jobs.fail(failure(error))

    def shadow(self, message: ShadowMessage, queue: str) -> None:
        """Predict rows with a version on trial, and count where it agrees with the version that answered them."""
        try:
            self._compare(message)
        finally:
            # Now a gateway may publish the next entry. The worker's user of Redis may not delete locks.
            with suppress(redis.RedisError):
                self._redis.pexpire(keys.shadow_lock(queue), 0)

    def _compare(self, message: ShadowMessage) -> None:
        try:
            predictor = self._predictors.get(message.model, message.version)
        except ModelError:
            with harmless():
                self._metrics.shadow_counts(message.model, message.primary, message.version).failed.inc(
                    len(message.rows)
                )
            return
        self._count_shadow(message, predictor.manifest, predictor.predict(message.rows))

    @harmless()
    def _count_shadow(self, message: ShadowMessage, manifest: Manifest, shadow: Predictions) -> None:
        counts = self._metrics.shadow_counts(message.model, message.primary, message.version)
        metrics = self._metrics.model(manifest)
        metrics.compute_seconds.observe(shadow.compute_seconds)
        metrics.count_confidence(shadow.confidence)
        n_failed = len(shadow.failures)
        pairs = zip(shadow.predictions, message.predictions, strict=True)
        n_same = sum(ours == theirs for at, (ours, theirs) in enumerate(pairs) if at not in shadow.failures)
        counts.failed.inc(n_failed)
        counts.same.inc(n_same)
        counts.different.inc(len(message.rows) - n_failed - n_same)

    def _predict(
        self,
        model: str,
        version: str,
        rows: Rows,
        sizes: Sequence[int],
        trace: "BatchTrace | None" = None,
        probe: bool = False,
        takes_bytes: Sequence[bool] = (),
    ) -> BatchResult:
        """Predict the rows of calls of these sizes; if the version can't be loaded, every call gets that as its error.

        A batch of the gateway's readiness probe (`probe`) does not appear as a batch in progress. `takes_bytes` is
        that of `predict_calls`.
        """
        try:
            predictor = self._predictors.get(model, version)
        except ModelError as error:
            before = self._unloaded_lines.admit()
            if before is not None:
                logger.error("%s %s can't be loaded: %s%s", model, version, error, before)
            reason = f"{model} {version} can't be loaded: `headrace verify` says why"
            return BatchResult([failure(PredictionError(ErrorCode.MODEL_UNAVAILABLE.value, reason))] * len(sizes))
        began_at = self._clock.now()
        with nullcontext() if probe else self._metrics.batches_in_progress.track_inprogress():
            batch = predict_calls(predictor, rows, sizes, takes_bytes)
        if trace is not None:
            trace.note_computed(began_at, batch.compute_seconds, len(rows))
        return batch

    @contextmanager
    def _log_and_trace(
        self, queue: str, model: str, version: str, carriers: "Sequence[Carrier]", at: float, **fields: list[str]
    ) -> "Iterator[BatchTrace | None]":
        """Set the fields of the log lines of a batch, and make its span if one of its calls or jobs is traced."""
        trace: BatchTrace | None = None
        if carriers and self._tracing is not None:
            with harmless():
                trace = self._tracing.start_batch(queue, model, version, carriers, at)
        if trace is None:
            with bound(model=model, version=version, **fields):
                yield None
            return
        with bound(model=model, version=version, **trace.ids, **fields), trace:
            yield trace


def _reply_json(message: PredictMessage, started_at: float, compute_seconds: float, results: Sequence[Result]) -> str:
    return BatchReply(
        batch=message.batch, started_at=started_at, compute_seconds=compute_seconds, results=list(results)
    ).to_json()
