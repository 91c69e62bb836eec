"""Durable jobs: every transition that a caller can cause."""

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.admission.jobs import JobsAdmission
from gateway.broker.batch_client import BatchClient
from gateway.broker.confirmed_script import ConfirmedScript
from gateway.broker.redis_client import COMMAND_SECONDS, bounded
from gateway.broker.workers import Workers
from gateway.errors import BrokerUnavailable, IdempotencyKeyReused, LoadError, NotReplicated, QueueFull, QuotaExceeded
from gateway.fairness.turns import OwnerTurns
from gateway.jobs.outcome_size import outcome_bytes
from gateway.settings import GatewaySettings
from headrace.models.manifest import Manifest
from shared.observability.log_context import detached
from shared.observability.log_limit import LogLimit
from shared.queue import keys
from shared.queue.contract import Lane, RunJobsMessage, queue_name
from shared.queue.job_scripts import script

if TYPE_CHECKING:
    from gateway.tracing import RequestTrace

logger = logging.getLogger(__name__)

DELETED_TOGETHER = 4
"""Jobs that are deleted at a time, so that a crowd of callers needs few connections."""

LINES_PER_SECOND = 10
"""Log lines about jobs that were not accepted."""

BLOCK_VALUES = 50_000
"""Values of rows that are written in one turn of the event loop: some 1 ms."""

SUBMITTED_TOGETHER_ROWS = 256
"""Rows of the jobs in one queue entry at most, unless a single job has more."""

REFUSALS: dict[bytes | None, tuple[type[LoadError], str]] = {
    None: (QueueFull, "too many jobs are open"),
    b"coming": (QueueFull, "the queue has no memory for the outcome, as long as so many jobs are open"),
    b"owner_open": (QuotaExceeded, "too many jobs of this API key's owner are open"),
    b"owner_bytes": (QuotaExceeded, "the jobs of this API key's owner take too much memory: delete ended ones"),
}
"""Error for each reason for which submit.lua refuses a job, and its text."""


class Deletion(str, Enum):
    """The effect of deleting a job."""

    CANCELLED = "cancelled"
    FORGOTTEN = "forgotten"


@dataclass(eq=False)
class _Submission:
    """A job on its way to Redis."""

    id: str
    manifest: Manifest
    worker_group: str
    rows: bytes
    n_rows: int
    single: bool
    idempotency_key: str
    fingerprint: str
    owner: str
    trace: bytes
    """The carrier of the job's trace as JSON, or empty."""
    answer: "asyncio.Future[tuple[str, bool]]"


class JobService:
    """The callers' transitions of jobs: submit, cancel and forget."""

    def __init__(
        self,
        redis: Redis,
        batch_client: BatchClient,
        workers: Workers,
        admission: JobsAdmission,
        settings: GatewaySettings,
    ) -> None:
        self._batch_client = batch_client
        self._workers = workers
        self._admission = admission
        self._settings = settings
        self._submit_script = ConfirmedScript(redis, script("submit"), settings.job_replicas_ack)
        self._delete_script = ConfirmedScript(redis, script("delete"), settings.job_replicas_ack)
        self._deletions = OwnerTurns(DELETED_TOGETHER, wait_max_seconds=COMMAND_SECONDS)
        self._pending: list[_Submission] = []
        self._submitting: asyncio.Task[None] | None = None
        self._refusal_lines = LogLimit(LINES_PER_SECOND, 1.0)

    async def submit(
        self,
        manifest: Manifest,
        rows: list[list[Any]],
        single: bool,
        idempotency_key: str | None,
        owner: str = "",
        trace: "RequestTrace | None" = None,
        reference: str | None = None,
    ) -> tuple[str, bool]:
        """Accept a job; when this returns, its record is in Redis. Each owner has idempotency keys of its own.

        Args:
            manifest: the version that will predict.
            rows: the rows, in feature order.
            single: True if the caller sent one flat row, and gets a flat answer.
            idempotency_key: the caller's key, if there is one.
            owner: owner of the caller's API key.
            trace: the request's spans, if it is traced.
            reference: the version or alias that the caller named, if any. A key belongs to it and not to the version
                that it means: an alias may move before a request is sent again.

        Returns:
            The job's id, and True if it is a replay: the job of an earlier request with the same key.

        Raises:
            IdempotencyKeyReused: if the key was used for other rows, or for another model, version or form of answer.
            QueueFull: if Redis is full, has no memory for the outcome, or too many jobs are open.
            QuotaExceeded: if the owner's jobs are too many, or take too much memory.
            Overloaded: if the job would expire before its turn.
            NotReplicated: if too few replicas have confirmed the job, which will run all the same unless it is lost.
            BrokerUnavailable: if Redis does not answer.
        """
        self._admission.check()
        if trace is not None:
            trace.begin_submission()
        body = await _as_json(rows)
        asked = hashlib.sha256(f"{manifest.name}\0{reference or ''}\0{single:d}\0".encode())
        asked.update(await _by_name(rows, body, manifest) if idempotency_key else body)
        fingerprint = asked.hexdigest()[:32]
        job_id = str(uuid.uuid4())
        submission = _Submission(
            job_id,
            manifest,
            self._workers.group_for(manifest.name),
            body,
            len(rows),
            single,
            keys.idempotency(idempotency_key, owner) if idempotency_key else keys.job(job_id),
            fingerprint,
            owner,
            orjson.dumps(trace.carrier) if trace is not None else b"",
            asyncio.get_running_loop().create_future(),
        )
        self._pending.append(submission)
        if self._submitting is None:
            self._submitting = detached(self._submit_pending())
        try:
            job_id, replay = await submission.answer
        finally:
            # If the answer is an error, its traceback refers to this frame: a cycle for the garbage collector.
            del submission
        if trace is not None:
            trace.end_submission()
        return job_id, replay

    async def _submit_pending(self) -> None:
        """Submit until nothing is pending.

        Submissions that arrive while Redis works on earlier ones go there together, in one call and one queue entry.
        """
        try:
            while self._pending:
                batch = self._next_batch()
                try:
                    await self._submit(batch)
                except Exception as error:
                    # Unforeseen, but no caller may wait for ever because of it.
                    for item in batch:
                        if not item.answer.done():
                            item.answer.set_exception(error)
        finally:
            self._submitting = None

    def _next_batch(self) -> list[_Submission]:
        """Take the oldest submission, and further ones for the same worker group up to a number of rows."""
        first = self._pending[0]
        batch, later, rows = [first], [], first.n_rows
        for submission in self._pending[1:]:
            if submission.worker_group == first.worker_group and rows + submission.n_rows <= SUBMITTED_TOGETHER_ROWS:
                batch.append(submission)
                rows += submission.n_rows
            else:
                later.append(submission)
        self._pending = later
        return batch

    async def _submit(self, batch: list[_Submission]) -> None:
        settings = self._settings
        worker_group = batch[0].worker_group
        names: list[str] = [keys.JOBS_OPEN, keys.JOB_COUNTS, queue_name(Lane.BULK, worker_group)]
        args: list[Any] = [
            self._batch_client.queue_entry(RunJobsMessage(jobs=[submission.id for submission in batch]), worker_group),
            settings.jobs_open_max,
            settings.job_check_seconds,
            settings.job_expiry_seconds,
            settings.job_retention_seconds,
            settings.job_max_attempts,
            self._admission.limits.coming_bytes,
            settings.owner_open_max,
            self._admission.limits.owner_bytes,
        ]
        for item in batch:
            names += [keys.job(item.id), item.idempotency_key]
            args += [item.id, item.manifest.name, item.manifest.version, item.rows, int(item.single)]
            args += [item.fingerprint, item.owner, item.trace, outcome_bytes(item.manifest, item.n_rows)]
        try:
            answers, confirmed = await bounded(self._submit_script(names, args))
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            if isinstance(error, TimeoutError | asyncio.TimeoutError | RedisTimeoutError):
                # The submissions that came meanwhile have waited too, and would wait as long again.
                batch, self._pending = batch + self._pending, []
            before = self._refusal_lines.admit()
            if before is not None:
                logger.warning("%d jobs not accepted: %s%s", len(batch), type(error).__name__, before)
            _fail(batch, BrokerUnavailable)
            return
        for item, answer in zip(batch, answers, strict=True):
            if item.answer.done():
                continue
            if not isinstance(answer, list):
                error_type, text = REFUSALS[answer]
                item.answer.set_exception(error_type(text, self._admission.room_seconds))
                continue
            created, job_id, fingerprint = answer
            if fingerprint.decode() != item.fingerprint:
                item.answer.set_exception(IdempotencyKeyReused())
            elif not confirmed:
                item.answer.set_exception(NotReplicated())
            else:
                item.answer.set_result((job_id.decode(), not created))

    async def delete(self, job_id: str, owner: str = "") -> Deletion | None:
        """Cancel a job that has no outcome yet, forget one that has; None if the owner has no job with this id.

        Raises:
            NotReplicated: if too few replicas have confirmed it.
            BrokerUnavailable: if Redis does not answer.
            Overloaded: if too many jobs are being deleted.
        """
        names, args = [keys.JOBS_OPEN, keys.JOB_COUNTS, keys.job(job_id)], [keys.JOBS_ENDED, job_id, owner]
        async with self._deletions.of(owner):
            try:
                deletion, confirmed = await bounded(self._delete_script(names, args))
            except (RedisError, OSError, asyncio.TimeoutError):
                raise BrokerUnavailable() from None
        if not confirmed:
            raise NotReplicated()
        return Deletion(deletion.decode()) if deletion else None


async def _as_json(rows: list[list[Any]]) -> bytes:
    """Return rows as JSON; many are written in blocks, between which other requests have their turn."""
    together = max(1, BLOCK_VALUES // max(1, len(rows[0])))
    if len(rows) <= together:
        return orjson.dumps(rows)
    pieces = []
    for start in range(0, len(rows), together):
        pieces.append(orjson.dumps(rows[start : start + together])[1:-1])
        await asyncio.sleep(0)
    return b"[%b]" % b",".join(pieces)


async def _by_name(rows: list[list[Any]], body: bytes, manifest: Manifest) -> bytes:
    """Return rows as JSON in the order of the features' names, which another version may list in another order."""
    names = [feature.name for feature in manifest.features]
    order = sorted(range(len(names)), key=names.__getitem__)
    if order == [*range(len(names))]:
        return body
    # With a single name, itemgetter would return a bare value; but then the order is that of the manifest.
    in_order = itemgetter(*order)
    return await _as_json([list(in_order(row)) for row in rows])


def _fail(batch: list[_Submission], failure: Callable[[], Exception]) -> None:
    for item in batch:
        if not item.answer.done():
            item.answer.set_exception(failure())
