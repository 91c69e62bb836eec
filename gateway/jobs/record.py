"""A job's record, as Redis holds it and as the gateway reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from shared.queue.contract import OUTCOMES, JobStatus

Record = Mapping[bytes, bytes]
"""The hash in Redis; empty for an id that is unknown or aged out."""


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

    @cached_property
    def outcome(self) -> dict[str, Any] | None:
        """The outcome; read when it is asked for, since one of many megabytes may be refused unread."""
        if self.outcome_json is None:
            return None
        outcome: dict[str, Any] = orjson.loads(self.outcome_json)
        return outcome

    @property
    def ended(self) -> bool:
        """True if the job has its outcome."""
        return self.status in OUTCOMES


def job_of(job_id: str, record: Record, owner: str) -> Job | None:
    """Return the job of a record, None if the record is empty or another owner's."""
    if not record or record.get(b"owner", b"") != owner.encode():
        return None

    def number(name: bytes) -> float | None:
        return float(record[name]) if name in record else None

    return Job(
        id=job_id,
        status=JobStatus(record[b"status"].decode()),
        model=record[b"model"].decode(),
        version=record[b"version"].decode(),
        single=record[b"single"] == b"1",
        attempt=int(record[b"attempt"]),
        accepted_at=float(record[b"accepted_at"]),
        started_at=number(b"started_at"),
        ended_at=number(b"ended_at"),
        compute_seconds=number(b"compute_seconds"),
        outcome_json=record.get(b"outcome"),
        result_dropped=b"result_dropped" in record,
    )
