"""Models as the protocol describes them: inputs and outputs, readiness, configuration, statistics."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway.api.responses import json_response
from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.oip.infer import InferStatistics
from gateway.oip.outputs import outputs_of
from gateway.services import Services
from gateway.web.request_context import context_of
from headrace.models.manifest import Manifest

PREFIX = "/v2"

TABLE = "input-0"
"""Name under which the one tensor of all features is described; any other will do."""

Name = Annotated[str, Path(max_length=64)]

_DATATYPES = {"number": "FP64", "boolean": "BOOL", "string": "BYTES"}
_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


def oip_model_routes(services: Services, statistics: InferStatistics) -> APIRouter:
    """Return the routes of models."""
    router = APIRouter(tags=["Open Inference Protocol"], dependencies=services.guard.dependencies(KeyScope.READ))
    catalog, workers = services.catalog, services.workers

    async def served_by(request: Request, name: str, version: str | None) -> ServedModel:
        return await catalog.get(name, version, context_of(request.scope).owner)

    @router.get(f"{PREFIX}/models", summary="Names of the models", response_class=Response)
    async def models() -> Response:
        return json_response({"models": catalog.names})

    async def metadata(request: Request, name: Name, version: Name | None = None) -> Response:
        served = await served_by(request, name, version)
        versions = {served.manifest.version, *catalog.aliases(name).values()}
        return json_response({**_metadata(served.manifest), "versions": sorted(versions)})

    async def model_ready(request: Request, name: Name, version: Name | None = None) -> Response:
        served = await served_by(request, name, version)
        refused = bool(workers.refusals(served.label))
        return json_response({"name": name, "ready": not refused}, 503 if refused else 200)

    async def config(request: Request, name: Name, version: Name | None = None) -> Response:
        served = await served_by(request, name, version)
        return json_response(_config(served))

    async def stats(request: Request, name: Name, version: Name | None = None) -> Response:
        served = await served_by(request, name, version)
        return json_response({"model_stats": [_stats(served, statistics.by_version.get(served, {}))]})

    for route, summary, endpoint in (
        ("", "A model: its inputs and outputs", metadata),
        ("/ready", "Whether workers take rows for a model", model_ready),
        ("/config", "A model's configuration, as Triton has it", config),
        ("/stats", "Inference requests that this process has answered", stats),
    ):
        for path in ("/models/{name}", "/models/{name}/versions/{version}"):
            router.get(PREFIX + path + route, summary=summary, response_class=Response)(endpoint)

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


def _metadata(manifest: Manifest) -> dict[str, Any]:
    inputs, outputs = _tensors(manifest)
    return {"name": manifest.name, "platform": "scikit-learn", "inputs": inputs, "outputs": outputs}


def _config(served: ServedModel) -> dict[str, Any]:
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


def _config_tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    datatype = tensor["datatype"]
    data_type = _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}")
    return {"name": tensor["name"], "data_type": data_type, "dims": tensor["shape"][1:] or [1]}


def _stats(served: ServedModel, numbers: Any) -> dict[str, Any]:
    """Return the statistics of a version as Triton has them: times are in nanoseconds."""
    requests = numbers.get("requests", 0)

    def duration(name: str) -> dict[str, int]:
        return {"count": requests, "ns": numbers.get(name, 0)}

    nothing = {"count": 0, "ns": 0}
    return {
        "name": served.manifest.name,
        "version": served.manifest.version,
        "inference_count": numbers.get("rows", 0),
        "execution_count": requests,
        "inference_stats": {
            "success": duration("ns"),
            "fail": nothing,
            "queue": duration("queue_ns"),
            "compute_input": nothing,
            "compute_infer": duration("compute_ns"),
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
    }
