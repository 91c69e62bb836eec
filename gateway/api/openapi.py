"""The OpenAPI document: FastAPI's, plus the hot routes with the default model's schema and examples."""

import asyncio
from typing import Any, NamedTuple

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from gateway.api.responses import JSON
from gateway.api.schemas import JobView, Prediction, Predictions, ProblemView, job_links, problems
from gateway.auth.guard import SCHEME
from gateway.catalog.served_model import ServedModel
from gateway.problems import CONTENT_TYPE
from gateway.services import Services
from headrace.models.made_up import example_row, flat_row
from headrace.models.manifest import Manifest

_REF = "#/components/schemas/"

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
    "description": "Seconds to wait for the prediction; past it the rows are not computed.",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same rows gives the same job, with other rows 422.",
}


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "A version or an alias.",
}


_PREFERRED_KEY = {
    **_IDEMPOTENCY_KEY,
    "schema": {"type": "string"},
    "description": "Key of the job, 1 to 255 characters; ignored without `Prefer`.",
}


_SCOPES = {"predict": "predict", "infer": "predict", "/invocations": "predict", "jobs": "jobs"}
"""Ending of the path of a hot route -> the scope that it needs."""


class _Protocol(NamedTuple):
    """A protocol of other servers."""

    summary: str
    body_type: str | None = None
    """Media type of bodies beside JSON."""
    error_type: str = CONTENT_TYPE


_INFER = _Protocol("Predict tensors, by the Open Inference Protocol", "application/octet-stream", JSON)
_SCORE = _Protocol("Predict, as TensorFlow Serving does")
_INVOKE = _Protocol("Predict with the default model, as MLflow and SageMaker ask", "text/csv")


class OpenApiDocument:
    """The document as JSON, written once for each version of the default model.

    A thread writes it: for thousands of features that takes seconds.
    """

    def __init__(self, app: FastAPI, services: Services) -> None:
        self._app = app
        self._services = services
        self._writing = asyncio.Lock()
        self._served: ServedModel | None = None
        self._json = b""

    async def json(self) -> bytes:
        """Return the document for the version of the default model that answers now."""
        async with self._writing:
            served = self._services.catalog.default
            if served is not self._served:
                self._json = await asyncio.to_thread(self._written, served)
                self._served = served
            return self._json

    def _written(self, served: ServedModel) -> bytes:
        return orjson.dumps(openapi_document(self._app, self._services, served))


def openapi_document(app: FastAPI, services: Services, served: ServedModel) -> dict[str, Any]:
    """Return the document with a version as the default model; blocks, for thousands of features for seconds."""
    document = _document(app, served)
    if services.guard.required:
        _require_keys(document)
    return document


def _document(app: FastAPI, served: ServedModel) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, definitions = models_json_schema(
        [(model, "serialization") for model in (Prediction, Predictions, JobView, ProblemView)],
        ref_template=_REF + "{model}",
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    schemas["Rows"] = served.parser.json_schema()
    paths = document["paths"]
    default_rows, any_rows = _default_rows(served.manifest), _any_rows()
    paths["/predict"] = {"post": _predict("predict", default_rows)}
    paths["/jobs"]["post"] = _submit("submit_job", default_rows)
    for prefix, parameters, suffix in (
        ("/models/{name}", [_NAME], "with_model"),
        ("/models/{name}/versions/{version}", [_NAME, _VERSION], "with_version"),
    ):
        paths[f"{prefix}/predict"] = {"parameters": parameters, "post": _predict(f"predict_{suffix}", any_rows)}
        paths[f"{prefix}/jobs"] = {"parameters": parameters, "post": _submit(f"submit_job_{suffix}", any_rows)}
        infer, score = _foreign(f"infer_{suffix}", _INFER), _foreign(f"score_{suffix}", _SCORE)
        paths[f"/v2{prefix}/infer"] = {"parameters": parameters, "post": infer}
        paths[f"/v1{prefix}:predict"] = {"parameters": parameters, "post": score}
    paths["/invocations"] = {"post": _foreign("invocations", _INVOKE)}
    return document


def _require_keys(document: dict[str, Any]) -> None:
    """Document the API key of the hot routes, as FastAPI does for its own, and the errors of all."""
    for path, operations in document["paths"].items():
        scope = next((scope for ending, scope in _SCOPES.items() if path.endswith(ending)), None)
        if "post" in operations and scope:
            operations["post"]["security"] = [{SCHEME: [scope]}]
        for method, operation in operations.items():
            if method != "parameters" and "security" in operation:
                media_type = JSON if path.startswith("/v2") else CONTENT_TYPE
                operation["responses"] |= _errors(401, 403, 429, media_type=media_type)


def _default_rows(manifest: Manifest) -> dict[str, Any]:
    shown = [sample.row for sample in manifest.samples[:2]] or [example_row(manifest)]
    rows = [flat_row(manifest, row) for row in shown]
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": f"{_REF}Rows"},
                "examples": {"one row": {"value": rows[0]}, "instances": {"value": {"instances": rows}}},
            }
        },
    }


def _any_rows() -> dict[str, Any]:
    """Describe rows of any model; `GET /models/{name}` tells the features of one."""
    return {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}


def _predict(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = {"oneOf": [{"$ref": f"{_REF}Prediction"}, {"$ref": f"{_REF}Predictions"}]}
    return {
        "tags": ["predictions"],
        "summary": "Predict, and wait for the answer",
        "operationId": operation,
        "parameters": [_DEADLINE, _PREFER, _PREFERRED_KEY],
        "requestBody": body,
        "responses": {
            "200": {"description": "The prediction.", "content": {"application/json": {"schema": answer}}},
            "202": _accepted("Only with `Prefer`: a job; poll `Location` for the outcome."),
            **_errors(400, 404, 413, 415, 422, 500, 503, 504),
        },
    }


def _submit(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": ["jobs"],
        "summary": "Submit a job",
        "operationId": operation,
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": body,
        "responses": {
            "202": _accepted("Accepted, and durable: poll `Location` for the outcome."),
            **_errors(400, 404, 413, 415, 422, 503),
        },
    }


def _foreign(operation: str, protocol: _Protocol) -> dict[str, Any]:
    """Describe a route of another server; its protocol says what bodies and answers are."""
    content: dict[str, Any] = {JSON: {"schema": {"type": "object"}}}
    if protocol.body_type:
        content[protocol.body_type] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "tags": ["other servers"],
        "summary": protocol.summary,
        "operationId": operation,
        "parameters": [_DEADLINE],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "The predictions.", "content": {"application/json": {"schema": {"type": "object"}}}},
            **_errors(400, 404, 413, 415, 422, 500, 503, 504, media_type=protocol.error_type),
        },
    }


def _accepted(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"Location": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"$ref": f"{_REF}JobView"}}},
        "links": job_links(),
    }


def _errors(*statuses: int, media_type: str = CONTENT_TYPE) -> dict[str, Any]:
    return {str(status): response for status, response in problems(*statuses, media_type=media_type).items()}
