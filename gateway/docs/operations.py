"""The hot routes in OpenAPI: FastAPI knows no parameters of theirs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.api.responses import JSON
from gateway.api.schemas import job_links, problems
from gateway.docs.model_schemas import REF, Described
from gateway.problems import CONTENT_TYPE

_PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "description": "`wait=N`: wait N seconds, then answer 202 with a job. `respond-async`: answer 202 at once.",
}
_DEADLINE = {
    "name": "deadline",
    "in": "query",
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Seconds to wait for the prediction; past it the rows are not computed. More than the gateway's "
    "`WAIT_MAX_SECONDS`, 60 by default, counts as that.",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same rows gives the same job, with other rows 422.",
}
_PREFERRED_KEY = {
    **_IDEMPOTENCY_KEY,
    "schema": {"type": "string"},
    "description": "Key of the job, 1 to 255 characters; ignored without `Prefer`.",
}
_SPLIT_KEY = {
    "name": "X-Split-Key",
    "in": "header",
    "schema": {"type": "string"},
    "description": "Callers with the same key always get the same version while a split runs.",
}
_TRACE = {
    "name": "traceparent",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The trace (W3C Trace Context) that the spans of this request belong to; ignored without tracing.",
}
_OF_ALL = [_SPLIT_KEY, _TRACE]


class _Protocol(NamedTuple):
    """A protocol of other servers."""

    summary: str
    example: Callable[[Described], Any]
    """Makes a body for a model; None if there is no example."""
    body_types: tuple[str, ...] = ()
    """Media types of bodies beside JSON."""
    error_type: str = CONTENT_TYPE


def _of_rows(member: str) -> Callable[[Described], Any]:
    return lambda model: {member: model.examples["instances"]["request"]["instances"]} if model.examples else None


INFER = _Protocol(
    "Predict tensors, by the Open Inference Protocol",
    lambda model: model.infer_example,
    ("application/octet-stream",),
    JSON,
)
SCORE = _Protocol("Predict, as TensorFlow Serving does", _of_rows("instances"), error_type=JSON)
INVOKE = _Protocol(
    "Predict with the default model, as MLflow and SageMaker ask",
    _of_rows("dataframe_records"),
    ("text/csv", "application/vnd.apache.parquet"),
)


def predict(operation: str, model: Described) -> dict[str, Any]:
    """Describe a route whose caller waits."""
    answer: dict[str, Any] = {"schema": {"oneOf": [{"$ref": f"{REF}{each}"} for each in model.answers]}}
    shown = {name: {"value": each["answer"]} for name, each in model.examples.items() if "answer" in each}
    if shown:
        answer["examples"] = shown
    return {
        "tags": ["predictions"],
        "summary": "Predict, and wait for the answer",
        "operationId": operation,
        "parameters": [_DEADLINE, _PREFER, _PREFERRED_KEY, *_OF_ALL],
        "requestBody": _rows(model),
        "responses": {
            "200": {
                "description": "The prediction.",
                "headers": {"Server-Timing": {"schema": {"type": "string"}, "description": "`timing`, as a header."}},
                "content": {JSON: answer},
            },
            "202": _accepted("Only with `Prefer`: a job; poll `Location` for the outcome."),
            **errors(400, 404, 413, 415, 422, 500, 503, 504),
        },
    }


def submit(operation: str, model: Described) -> dict[str, Any]:
    """Describe a route that takes jobs."""
    return {
        "tags": ["jobs"],
        "summary": "Submit a job",
        "operationId": operation,
        "parameters": [_IDEMPOTENCY_KEY, *_OF_ALL],
        "requestBody": _rows(model),
        "responses": {
            "202": _accepted("Accepted, and durable: poll `Location` for the outcome."),
            **errors(400, 404, 413, 415, 422, 503),
        },
    }


def foreign(operation: str, protocol: _Protocol, model: Described) -> dict[str, Any]:
    """Describe a route of another server; its protocol says what bodies and answers are."""
    body: dict[str, Any] = {"schema": {"type": "object"}}
    example = protocol.example(model)
    if example is not None:
        body["example"] = example
    content = {JSON: body}
    for body_type in protocol.body_types:
        content[body_type] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "tags": ["other servers"],
        "summary": protocol.summary,
        "operationId": operation,
        "parameters": [_DEADLINE, *_OF_ALL],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "The predictions.", "content": {JSON: {"schema": {"type": "object"}}}},
            **errors(400, 404, 413, 415, 422, 500, 503, 504, media_type=protocol.error_type),
        },
    }


def errors(*statuses: int, media_type: str = CONTENT_TYPE) -> dict[str, Any]:
    """Return the responses for these statuses."""
    return {str(status): response for status, response in problems(*statuses, media_type=media_type).items()}


def _rows(model: Described) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": model.rows}
    if model.examples:
        body["examples"] = {name: {"value": each["request"]} for name, each in model.examples.items()}
    return {"required": True, "content": {JSON: body}}


def _accepted(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"Location": {"schema": {"type": "string"}}},
        "content": {JSON: {"schema": {"$ref": f"{REF}JobView"}}},
        "links": job_links(),
    }
