"""HTTP bodies for OpenAPI; separate from the queue's contract, so that either can change alone."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Value = str | int | float | bool | dict[str, str | int | float | bool]
"""One value, or one per output of a model that has several."""

Probabilities = dict[str, float] | dict[str, dict[str, float]]
"""Probabilities by class, or by output and class."""

_PROBABILITIES = "By class, if the model has them. A key is the JSON text of its class: `true`, `1`, a text itself."


class Timing(BaseModel):
    """Times of the request in milliseconds; the header `Server-Timing` has the same numbers.

    Queue and compute together are never more than the total.
    """

    queue_ms: float = Field(description="From acceptance to the start of the first batch.")
    compute_ms: float = Field(description="Time in which the estimator computed a batch with rows of the request.")
    total_ms: float = Field(description="From the request to the answer.")


class Prediction(BaseModel):
    """The answer to one row."""

    prediction: Value
    probabilities: Probabilities | None = Field(None, description=_PROBABILITIES)
    model: str
    version: str
    timing: Timing


class Predictions(BaseModel):
    """The answer to `instances`, in their order."""

    predictions: list[Value]
    probabilities: list[Probabilities] | None = Field(None, description=_PROBABILITIES)
    model: str
    version: str
    timing: Timing


class JobError(BaseModel):
    """Reason for a job's failure."""

    code: str
    message: str
    rows: list[int] | None = Field(None, description="Positions of the first failing rows, from 0; empty: all.")
    count: int | None = Field(None, description="Number of rows that are known to fail.")


class JobResult(BaseModel):
    """Result of a job: `prediction` for one row, `predictions` for instances."""

    prediction: Value | None = None
    predictions: list[Value] | None = None
    probabilities: Probabilities | list[Probabilities] | None = Field(None, description=_PROBABILITIES)


class JobView(BaseModel):
    """A job; members for what has not happened yet are absent."""

    id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
    model: str
    version: str
    attempt: int | None = None
    accepted_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    timing: Timing | None = None
    result: JobResult | None = None
    error: JobError | None = None
    result_expired: bool | None = Field(None, description="True if the result made room for newer ones.")


class JobList(BaseModel):
    """A page of jobs, without results."""

    jobs: list[JobView]
    next: str | None = Field(None, description="`cursor` of the next page; absent at the end.")


class ProblemView(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = Field(None, description="Values that don't fit, by JSON pointer.")
    rows: list[int] | None = Field(None, description="Positions of the first rows that failed, from 0.")
    count: int | None = Field(None, description="Number of rows that are known to fail.")
    job: JobView | None = None


class HealthView(BaseModel):
    """A summary for people."""

    status: Literal["ok", "unavailable"]
    reason: str | None
    broker_up: bool
    workers: dict[str, Any]
    queue: dict[str, Any]
    jobs: dict[str, Any]
    model: str
    version: str | None


class WaitingView(BaseModel):
    """Rows or jobs that wait in a lane, and what they ask for."""

    count: int
    slot_seconds_each: float
    """Time of a slot that each of them takes, by the estimate of the wait."""
    wait_seconds: float
    target_wait_seconds: float


class WorkerGroupView(BaseModel):
    """The scaling signal of a worker group: (busy + waiting slots) / slots per worker."""

    models: list[str]
    wanted_workers: float
    workers: int
    slots: int
    slots_per_worker: float
    busy_slots: float
    waiting_slots: float
    waiting: dict[str, WaitingView]


class ScalingView(BaseModel):
    """Worker groups that have live workers."""

    worker_groups: list[WorkerGroupView]


_TEXT = {
    400: "Not JSON.",
    401: "The API key is missing or unknown.",
    403: "The API key lacks the scope.",
    404: "Unknown, or expired.",
    410: "The result made room for newer ones. The member `job` holds the job without it.",
    413: "The body is too large.",
    414: "The URL is too long.",
    415: "Not of a media type that the route takes; the detail names them.",
    422: "JSON that does not fit the model, rows that the model refuses, or an unacceptable parameter.",
    429: "More requests, or more jobs, than the API key allows; see Retry-After.",
    431: "The request has too many headers, or they are too long.",
    500: "The model failed, or a job's record is damaged.",
    503: "Overloaded, or a component is down; see Retry-After.",
    504: "No prediction before the deadline.",
}


GET_JOB, DELETE_JOB = "get_job", "delete_job"
"""Ids of the operations that a response with a job links to."""


def job_links() -> dict[str, dict[str, Any]]:
    """Return OpenAPI links from a job in a response to the operations on it."""
    return {
        operation: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
        for operation in (GET_JOB, DELETE_JOB)
    }


def problems(*statuses: int, media_type: str = "application/problem+json") -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI responses for these statuses."""
    return {
        status: {
            "description": _TEXT[status],
            "content": {media_type: {"schema": {"$ref": "#/components/schemas/ProblemView"}}},
        }
        for status in statuses
    }
