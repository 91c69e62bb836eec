"""The OpenAPI documents: FastAPI's, plus the hot routes with the schemas and examples of a model."""

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from gateway.api.responses import JSON
from gateway.api.schemas import JobView, Prediction, Predictions, ProblemView
from gateway.auth.guard import SCHEME
from gateway.catalog.served_model import ServedModel
from gateway.docs.model_schemas import ANY_MODEL, REF, Described, described, schemas_of
from gateway.docs.operations import INFER, INVOKE, SCORE, errors, foreign, predict, submit
from gateway.problems import CONTENT_TYPE
from gateway.services import Services

_TAGS = {
    "predictions": "Wait for the answer.",
    "jobs": "Submit, and poll for the outcome.",
    "models": "What is served, and what rows look like.",
    "other servers": "Predictions as clients of KServe, Triton, TensorFlow Serving, MLflow and SageMaker ask for them.",
    "Open Inference Protocol": "Models and the server as KServe and Triton describe them.",
    "operations": "Probes and metrics.",
}
"""Groups of operations, in the order in which people see them."""

_HEADERS = (
    "Every request may have `X-Request-ID` (1 to 64 letters, digits, `.`, `_`, `-`), which the answer repeats and the "
    "log names, and `traceparent`."
)

_SCOPES = {"predict": "predict", "infer": "predict", "/invocations": "predict", "jobs": "jobs"}
"""Ending of the path of a hot route -> the scope that it needs."""

_OF_DEFAULT = frozenset(["/predict", "/invocations", "/model-info"])
"""Paths that mean the default model."""

_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "A version or an alias.",
}

Document = dict[str, Any]
Paths = dict[str, dict[str, Any]]


class OpenApi:
    """The maker of documents; each method blocks, for thousands of features for seconds."""

    def __init__(self, app: FastAPI, services: Services) -> None:
        self._app = app
        self._services = services

    def of_all(self, served: ServedModel) -> Document:
        """Return the document of all routes, with a version as the default model."""
        default = described(served)
        name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        # The examples of the generic routes are those of the default model.
        any_model = ANY_MODEL._replace(examples=default.examples, infer_example=default.infer_example)
        paths: Paths = {
            "/predict": {"post": predict("predict", default)},
            "/jobs": {"post": submit("submit_job", default)},
            "/invocations": {"post": foreign("invocations", INVOKE, default)},
            **_of_name({**name, "example": served.manifest.name}, any_model),
        }
        return self._document(served, paths)

    def of_model(self, served: ServedModel) -> Document:
        """Return the document of one model: its name is in the paths, its rows and classes in the schemas."""
        manifest = served.manifest
        document = self._document(served, _of_name(None, described(served)))
        paths = document["paths"].items()
        document["paths"] = {
            path.replace("{name}", manifest.name): _without_name(item)
            for path, item in paths
            if path not in _OF_DEFAULT
        }
        document["info"]["description"] += f" These are the routes of the model `{manifest.name}`."
        # Relative to the address of the document, which is deeper than that of all models.
        document["servers"] = [{"url": "../.."}]
        return document

    def _document(self, served: ServedModel, hot: Paths) -> Document:
        document = copy.deepcopy(self._routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(schemas_of(served, schemas))
        document["paths"] = dict(_joined(hot, document["paths"]))
        document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
        document["servers"] = [{"url": "."}]
        if self._services.guard.required:
            _require_keys(document)
        return document

    @cached_property
    def _routes(self) -> Document:
        """FastAPI's document of its routes, with the schemas that the hot ones refer to."""
        app = self._app
        document = get_openapi(
            title=app.title, version=app.version, description=f"{app.description} {_HEADERS}", routes=app.routes
        )
        _, definitions = models_json_schema(
            [(model, "serialization") for model in (Prediction, Predictions, JobView, ProblemView)],
            ref_template=REF + "{model}",
        )
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        return document


def _of_name(name: dict[str, Any] | None, model: Described) -> Paths:
    """Describe the hot routes with a model in the path."""
    paths: Paths = {}
    named = [name] if name else []
    for prefix, parameters, suffix in (
        ("/models/{name}", named, "with_model"),
        ("/models/{name}/versions/{version}", [*named, _VERSION], "with_version"),
    ):
        operations = {
            f"{prefix}/predict": predict(f"predict_{suffix}", model),
            f"{prefix}/jobs": submit(f"submit_job_{suffix}", model),
            f"/v2{prefix}/infer": foreign(f"infer_{suffix}", INFER, model),
            f"/v1{prefix}:predict": foreign(f"score_{suffix}", SCORE, model),
        }
        for path, operation in operations.items():
            paths[path] = {"parameters": parameters, "post": operation}
    return paths


def _joined(hot: Paths, others: Paths) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the hot routes first, then the others by their group."""
    for path, item in hot.items():
        yield path, {**item, **others.get(path, {})}
    groups = [*_TAGS]
    left = [(path, item) for path, item in others.items() if path not in hot]
    yield from sorted(left, key=lambda each: groups.index(next(iter(each[1].values()))["tags"][0]))


def _without_name(item: dict[str, Any]) -> dict[str, Any]:
    """Return the operations of a path without the parameter that its model's name has replaced."""

    def kept(operation: Any) -> Any:
        if not isinstance(operation, dict) or "parameters" not in operation:
            return operation
        parameters = [each for each in operation["parameters"] if (each["in"], each["name"]) != ("path", "name")]
        return {**operation, "parameters": parameters}

    return {method: kept(operation) for method, operation in item.items()}


def _require_keys(document: Document) -> None:
    """Document the API key of the hot routes, as FastAPI does for its own, and the errors of all."""
    for path, operations in document["paths"].items():
        scope = next((scope for ending, scope in _SCOPES.items() if path.endswith(ending)), None)
        if "post" in operations and scope:
            operations["post"]["security"] = [{SCHEME: [scope]}]
        for method, operation in operations.items():
            if method != "parameters" and "security" in operation:
                media_type = JSON if path.startswith(("/v1", "/v2")) else CONTENT_TYPE
                operation["responses"] |= errors(401, 403, 429, media_type=media_type)
                # Of any route, since they are answered before there is one.
                operation["responses"] |= errors(414, 431, media_type=CONTENT_TYPE)
