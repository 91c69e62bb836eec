"""HTTP bodies, for OpenAPI; distinct from the queue's contract, so that either can change alone."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Value = str | int | float | bool | dict[str, str | int | float | bool]
"""One value, or one per output of a model that has several."""

Probabilities = dict[str, float] | dict[str, dict[str, float]]
"""By class, or by output and class."""


class Timing(BaseModel):
    """Where the time went, in milliseconds; the same numbers are in the header `Server-Timing`."""

    queue_ms: float = Field(description="From acceptance to the start of the first batch.")
    compute_ms: float = Field(description="Inside the estimator, for the whole batch; added up if there were several.")
    total_ms: float = Field(description="From the request to the answer.")


class Prediction(BaseModel):
    """The answer to one row."""

    prediction: Value
    probabilities: Probabilities | None = Field(None, description="By class, if the model knows them.")
    model: str
    version: str
    timing: Timing


class Predictions(BaseModel):
    """The answer to `instances`, in their order."""

    predictions: list[Value]
    probabilities: list[Probabilities] | None = None
    model: str
    version: str
    timing: Timing


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    rows: list[int] = Field(description="Positions of the failing rows, from 0; empty: all.")


class JobResult(BaseModel):
    """What the model said: `prediction` for one row, `predictions` for instances."""

    prediction: Value | None = None
    predictions: list[Value] | None = None
    probabilities: Probabilities | list[Probabilities] | None = None


class JobView(BaseModel):
    """A job; what has not happened yet is absent."""

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


class ProblemView(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class HealthView(BaseModel):
    """A readable summary."""

    status: Literal["ok", "unavailable"]
    reason: str | None
    broker_up: bool
    workers: dict[str, Any]
    queue: dict[str, Any]
    jobs: dict[str, Any]
    model: str
    version: str


_TEXT = {
    400: "Not JSON.",
    401: "No API key of this gateway.",
    403: "The API key is not good for this.",
    404: "Unknown, or aged out.",
    409: "In conflict with the job's state.",
    413: "The body is too large.",
    415: "Not application/json.",
    422: "JSON, but not what this model takes.",
    429: "More requests than the API key may make; see Retry-After.",
    500: "The model failed.",
    503: "Overloaded, or a part is down; see Retry-After.",
    504: "No prediction before the deadline.",
}


GET_JOB, CANCEL_JOB = "get_job", "cancel_job"
"""Ids of the operations that an answer with a job leads to."""


def job_links() -> dict[str, dict[str, Any]]:
    """OpenAPI links from a job in an answer to what can be asked about it."""
    return {
        operation: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
        for operation in (GET_JOB, CANCEL_JOB)
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these errors."""
    return {
        status: {
            "description": _TEXT[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemView"}}},
        }
        for status in statuses
    }
