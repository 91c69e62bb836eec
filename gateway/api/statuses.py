"""The status table: the HTTP answer to each error of the gateway's rooms, and to each error of the queue."""

from typing import Any

from gateway.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    IdempotencyKeyReused,
    InvalidJson,
    InvalidRows,
    InvalidTensors,
    LoadError,
    ModelUnavailable,
    NotReplicated,
    NoWorker,
    Overloaded,
    QueueFull,
    QuotaExceeded,
    RecordDamaged,
    RequestError,
    UnknownModel,
)
from gateway.problems import Problem, retry_after
from shared.queue.contract import JOB_DAMAGED, ErrorCode

ERRORS_SHOWN = 20
"""Number of wrong values or failing rows that an answer names."""

NAME_SHOWN_CHARACTERS = 64
"""Length to which a name that the caller made up is cut."""

SOON_SECONDS = 0.5
"""Time after which to try again what is not likely to happen twice."""

#: Status and code of an error, and the seconds to wait before another try; None: the error has them, or there is none.
STATUSES: dict[type[RequestError], tuple[int, str, float | None]] = {
    QueueFull: (503, "queue_full", None),
    Overloaded: (503, "overloaded", None),
    QuotaExceeded: (429, "quota_exceeded", None),
    BrokerUnavailable: (503, "broker_unavailable", 2.0),
    NotReplicated: (503, "not_replicated", 2.0),
    NoWorker: (503, "no_worker", 5.0),
    DeadlineExceeded: (504, "deadline_exceeded", SOON_SECONDS),
    IdempotencyKeyReused: (422, "idempotency_key_reused", None),
    RecordDamaged: (500, JOB_DAMAGED, None),
    UnknownModel: (404, "unknown_model", None),
    ModelUnavailable: (503, "model_unavailable", 5.0),
    InvalidJson: (400, "invalid_json", None),
    InvalidRows: (422, "invalid_rows", None),
    InvalidTensors: (400, "invalid_tensors", None),
}

#: Status of an error that came back through the queue.
STATUS_OF_CODE = {
    ErrorCode.PREDICTION_FAILED.value: 500,
    ErrorCode.ROW_REJECTED.value: 422,
    ErrorCode.RESULT_TOO_LARGE.value: 422,
    ErrorCode.MODEL_UNAVAILABLE.value: 503,
    ErrorCode.DEADLINE_EXCEEDED.value: 504,
    ErrorCode.TIME_LIMIT.value: 504,
    ErrorCode.WORKER_LOST.value: 503,
}


def problem_of(error: RequestError) -> Problem:
    """Return the problem that an error is answered with."""
    status, code, seconds = STATUSES[type(error)]
    if isinstance(error, LoadError):
        seconds = error.retry_after_seconds
    problem = Problem(status, code, str(error), retry_after(seconds) if seconds is not None else {})
    if isinstance(error, InvalidRows):
        problem.extra["errors"] = [
            {"pointer": "".join(f"/{_shortened(part)}" for part in path), "detail": detail}
            for path, detail in error.mistakes[:ERRORS_SHOWN]
        ]
    return problem


def problem_of_result(error: dict[str, Any]) -> Problem:
    """Return the problem for an error that came back through the queue; an unknown code is 500."""
    status = STATUS_OF_CODE.get(error["code"], 500)
    problem = Problem(status, error["code"], error["message"])
    if status in (503, 504):
        problem.headers |= retry_after(SOON_SECONDS)
    if error["rows"]:
        problem.extra["rows"] = error["rows"][:ERRORS_SHOWN]
        problem.extra["count"] = error.get("count", len(error["rows"]))
    return problem


def _shortened(part: int | str) -> str:
    """Cut and escape a part of a JSON pointer (RFC 6901)."""
    # Cut first: half an escape would be no pointer.
    return str(part)[:NAME_SHOWN_CHARACTERS].replace("~", "~0").replace("/", "~1")
