"""A job's record, as Redis holds it and as the gateway reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import RecordDamaged
from shared.queue.contract import OUTCOMES, JobStatus

SECONDS_MAX = 1e11
"""Bound of the times that a record can hold: later ones have no date."""

ATTEMPTS_MAX = 2**53
"""Bound of the attempts that a record can hold: a greater number is no number of JSON."""

FIELDS = (
    b"owner",
    b"status",
    b"model",
    b"version",
    b"single",
    b"attempt",
    b"accepted_at",
    b"started_at",
    b"ended_at",
    b"compute_seconds",
    b"result_dropped",
)
"""Fields of the hash in Redis that callers see, but the outcome: each of them is short."""

OUTCOME = b"outcome"

Record = Mapping[bytes, bytes]
"""Fields of the hash in Redis; empty for an id that is unknown or aged out.

Of an outcome that was too large to be read, `unread_bytes` is the size.
"""


@dataclass(frozen=True)
class Job:
    """A job's record. Times are seconds of the broker's clock, None for events that have not happened."""

    id: str
    status: JobStatus
    model: str
    version: str
    single: bool
    attempt: int
    accepted_at: float
    started_at: float | None
    ended_at: float | None
    compute_seconds: float | None
    outcome_json: bytes | None
    """The outcome as the worker wrote it."""
    result_dropped: bool = False
    """True if the result, or the positions of the failing rows, made room for newer results."""
    unread_bytes: int = 0
    """Size of an outcome that was left out because it is large."""

    @property
    def outcome(self) -> dict[str, Any] | None:
        """The outcome, read anew each time: one of many megabytes may be refused unread, and is not kept.

        Raises:
            RecordDamaged: if neither a worker nor a script wrote it.
        """
        if self.outcome_json is None:
            return None
        try:
            outcome: Any = orjson.loads(self.outcome_json)
        except ValueError:
            raise RecordDamaged() from None
        if not isinstance(outcome, dict) or not isinstance(outcome.get("error", {}), dict):
            raise RecordDamaged()
        return outcome

    @property
    def ended(self) -> bool:
        """True if the job has its outcome."""
        return self.status in OUTCOMES


def job_of(job_id: str, record: Record, owner: str) -> Job | None:
    """Return the job of a record, None if the record is empty or another owner's.

    Raises:
        RecordDamaged: if the record can't be read.
    """
    if not record or record.get(b"owner", b"") != owner.encode():
        return None
    try:
        return _job(job_id, record)
    except (KeyError, ValueError):
        raise RecordDamaged() from None


def seconds_of(value: bytes) -> float:
    """Return a time or a duration of a record, in seconds.

    Raises:
        ValueError: if it is none that a script has written.
    """
    seconds = float(value)
    if not 0 <= seconds < SECONDS_MAX:
        raise ValueError("no time")
    return seconds


def attempt_of(value: bytes) -> int:
    """Return the number of the attempts of a job.

    Raises:
        ValueError: if it is none that a script has written.
    """
    attempt = int(value)
    if not 0 <= attempt <= ATTEMPTS_MAX:
        raise ValueError("no number of attempts")
    return attempt


def _job(job_id: str, record: Record) -> Job:
    def seconds(name: bytes) -> float | None:
        return seconds_of(record[name]) if name in record else None

    status = JobStatus(record[b"status"].decode())
    if (status in OUTCOMES) != (b"ended_at" in record):
        raise ValueError("the status and the time of the end contradict each other")
    return Job(
        id=job_id,
        status=status,
        model=record[b"model"].decode(),
        version=record[b"version"].decode(),
        single=record[b"single"] == b"1",
        attempt=attempt_of(record[b"attempt"]),
        accepted_at=seconds_of(record[b"accepted_at"]),
        started_at=seconds(b"started_at"),
        ended_at=seconds(b"ended_at"),
        compute_seconds=seconds(b"compute_seconds"),
        outcome_json=record.get(OUTCOME),
        result_dropped=b"result_dropped" in record,
        unread_bytes=int(record.get(b"unread_bytes", b"0")),
    )
