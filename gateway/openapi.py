"""The OpenAPI document: FastAPI's own, and the two hot routes, with the model's real schema and examples."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from gateway.rows import flat_row
from gateway.schemas import JobView, Prediction, Predictions, ProblemView, problems
from gateway.service import Service

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


def install_openapi(app: FastAPI, service: Service) -> None:
    """Replace `app.openapi`; the document is made at its first use."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, service)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, service: Service) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, definitions = models_json_schema(
        [(model, "serialization") for model in (Prediction, Predictions, JobView, ProblemView)],
        ref_template=_REF + "{model}",
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    schemas["Rows"] = service.parser.json_schema()
    paths = document["paths"]
    paths["/predict"] = {"post": _predict(service)}
    paths["/jobs"] = {"post": _submit(service)}
    return document


def _body(service: Service) -> dict[str, Any]:
    sample, *_ = service.manifest.samples
    row = flat_row(service.manifest, sample.row)
    many = {"instances": [flat_row(service.manifest, sample.row) for sample in service.manifest.samples[:2]]}
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": f"{_REF}Rows"},
                "examples": {
                    "one row": {"value": row},
                    "instances": {"value": many},
                },
            }
        },
    }


def _predict(service: Service) -> dict[str, Any]:
    answer = {"oneOf": [{"$ref": f"{_REF}Prediction"}, {"$ref": f"{_REF}Predictions"}]}
    return {
        "tags": ["predictions"],
        "summary": "Predict, and wait for the answer",
        "operationId": "predict",
        "parameters": [_DEADLINE, _PREFER, _IDEMPOTENCY_KEY],
        "requestBody": _body(service),
        "responses": {
            "200": {"description": "The prediction.", "content": {"application/json": {"schema": answer}}},
            "202": _accepted("Only with `Prefer`: a job, to be picked up at `Location`."),
            **_errors(400, 413, 415, 422, 500, 503, 504),
        },
    }


def _submit(service: Service) -> dict[str, Any]:
    return {
        "tags": ["jobs"],
        "summary": "Submit a job",
        "operationId": "submit_job",
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": _body(service),
        "responses": {
            "202": _accepted("Accepted, and durable: poll `Location` for the outcome."),
            **_errors(400, 413, 415, 422, 503),
        },
    }


def _accepted(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"Location": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"$ref": f"{_REF}JobView"}}},
    }


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): response for status, response in problems(*statuses).items()}
