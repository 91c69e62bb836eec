"""Models as the protocol describes them: inputs and outputs, readiness, configuration, statistics."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway.api.responses import JSON, json_response
from gateway.api.schemas import problems
from gateway.auth.api_keys import KeyScope
from gateway.broker.workers import Workers
from gateway.catalog.catalog import Catalog
from gateway.catalog.served_model import ServedModel
from gateway.fairness.written import WrittenDocuments
from gateway.oip.infer import InferStatistics
from gateway.oip.outputs import outputs_of
from gateway.problems import Problem
from gateway.services import Services
from gateway.web.request_context import context_of
from headrace.models.manifest import Manifest

PREFIX = "/v2"

TABLE = "input-0"
"""Name under which the one tensor of all features is described; any other will do."""

ERRORS = problems(404, 422, 503, media_type=JSON)
"""Errors of the routes of one model, for OpenAPI."""

Name = Annotated[str, Path(max_length=64)]

Describe = Callable[[ServedModel, Request], Awaitable[Response]]
"""Answers a request for something about a version."""

_DATATYPES = {"number": "FP64", "boolean": "BOOL", "string": "BYTES"}
_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


def oip_model_routes(services: Services, statistics: InferStatistics) -> APIRouter:
    """Return the routes of models."""
    router = APIRouter(tags=["Open Inference Protocol"], dependencies=services.guard.dependencies(KeyScope.READ))
    catalog, workers = services.catalog, services.workers

    tensors = WrittenDocuments[ServedModel](lambda served: orjson.dumps(model_tensors(served)))
    configs = WrittenDocuments[ServedModel](lambda served: orjson.dumps(model_config(served)))

    async def metadata(served: ServedModel, request: Request) -> Response:
        written = await tensors.of(served, context_of(request.scope).owner, request.is_disconnected)
        head = orjson.dumps(model_head(catalog, served.manifest))
        return Response(b"%b,%b" % (head[:-1], written[1:]), media_type=JSON)

    async def ready(served: ServedModel, _: Request) -> Response:
        refused = bool(workers.refusals(served.label))
        return json_response({"name": served.manifest.name, "ready": not refused}, 503 if refused else 200)

    async def config(served: ServedModel, request: Request) -> Response:
        written = await configs.of(served, context_of(request.scope).owner, request.is_disconnected)
        return Response(written, media_type=JSON)

    async def stats(served: ServedModel, _: Request) -> Response:
        return json_response({"model_stats": [model_statistics(served, statistics)]})

    def add(path: str, summary: str, describe: Describe) -> None:
        async def by_name(request: Request, name: Name) -> Response:
            return await describe(await catalog.get(name, None, context_of(request.scope).owner), request)

        async def by_version(request: Request, name: Name, version: Name) -> Response:
            return await describe(await catalog.get(name, version, context_of(request.scope).owner), request)

        for base, endpoint in (("/models/{name}", by_name), ("/models/{name}/versions/{version}", by_version)):
            route = f"{PREFIX}{base}{path}"
            router.get(route, summary=summary, response_class=Response, responses=ERRORS)(endpoint)

    # Before the route of one model, whose name it could be.
    @router.get(
        f"{PREFIX}/models/stats", summary="Inference requests to all versions in memory", response_class=Response
    )
    async def all_stats() -> Response:
        return json_response(all_statistics(catalog, statistics))

    add("", "A model: its inputs and outputs", metadata)
    add("/ready", "Whether workers take rows for a model", ready)
    add("/config", "A model's configuration, as Triton has it", config)
    add("/stats", "Inference requests that this process has answered", stats)
    return router


def _tensors(manifest: Manifest) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the descriptions of the inputs and outputs of a model."""
    features = manifest.features
    if all(feature.type == "number" for feature in features):
        inputs = [{"name": TABLE, "datatype": "FP64", "shape": [-1, len(features)]}]
    else:
        inputs = [
            {"name": feature.name, "datatype": _DATATYPES[feature.type], "shape": [-1, 1]} for feature in features
        ]
    outputs = [
        {"name": output.name, "datatype": output.datatype, "shape": [-1, output.width] if output.width else [-1]}
        for output in outputs_of(manifest)
    ]
    return inputs, outputs


def model_head(catalog: Catalog, manifest: Manifest) -> dict[str, Any]:
    """Return the first members of the description of a model, those that aliases change."""
    versions = {manifest.version, *catalog.aliases(manifest.name).values()}
    return {"name": manifest.name, "versions": sorted(versions)}


def model_tensors(served: ServedModel) -> dict[str, Any]:
    """Return the other members, always those of this version; of thousands of features that takes a while."""
    inputs, outputs = _tensors(served.manifest)
    return {"platform": "scikit-learn", "inputs": inputs, "outputs": outputs}


def repository_index(catalog: Catalog, workers: Workers, only_ready: bool) -> list[dict[str, str]]:
    """Return all models with the versions that aliases name, with or without those that workers refuse."""
    index = []
    for name in catalog.names:
        for version in sorted(set(catalog.aliases(name).values())):
            refusals = workers.refusals(f"{name} {version}")
            if not (refusals and only_ready):
                state, reason = ("UNAVAILABLE", "; ".join(sorted(refusals))) if refusals else ("READY", "")
                index.append({"name": name, "version": version, "state": state, "reason": reason})
    return index


def model_config(served: ServedModel) -> dict[str, Any]:
    """Return the configuration of a version, as Triton has it; of thousands of features that takes a while."""
    inputs, outputs = _tensors(served.manifest)
    return {
        "name": served.manifest.name,
        "platform": "scikit-learn",
        "backend": "headrace",
        "max_batch_size": served.parser.rows_max,
        "input": [*map(_config_tensor, inputs)],
        "output": [*map(_config_tensor, outputs)],
        "dynamic_batching": {},
    }


def unloading_refused() -> Problem:
    """Return the problem of callers who want a model out of the memory."""
    detail = "models leave the memory by themselves; `headrace remove` takes a version out of the model store"
    return Problem(400, "not_supported", detail)


def _config_tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    datatype = tensor["datatype"]
    data_type = _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}")
    return {"name": tensor["name"], "data_type": data_type, "dims": tensor["shape"][1:] or [1]}


def all_statistics(catalog: Catalog, statistics: InferStatistics) -> dict[str, Any]:
    """Return the statistics of all versions in memory."""
    served = sorted(catalog.served, key=lambda each: each.label)
    return {"model_stats": [model_statistics(each, statistics) for each in served]}


def model_statistics(served: ServedModel, statistics: InferStatistics) -> dict[str, Any]:
    """Return the statistics of a version as Triton has them: times are in nanoseconds."""
    numbers = statistics.by_version.get(served, Counter())
    requests = numbers["requests"]

    def duration(name: str) -> dict[str, int]:
        return {"count": requests, "ns": numbers[name]}

    nothing = {"count": 0, "ns": 0}
    return {
        "name": served.manifest.name,
        "version": served.manifest.version,
        "inference_count": numbers["rows"],
        "execution_count": requests,
        "inference_stats": {
            "success": duration("ns"),
            "fail": {"count": numbers["failures"], "ns": numbers["failed_ns"]},
            "queue": duration("queue_ns"),
            "compute_input": nothing,
            "compute_infer": duration("compute_ns"),
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
    }
