"""`/health`, `/livez`, `/readyz`, `/metrics` and `/scaling`."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from gateway.api.responses import json_response
from gateway.api.schemas import HealthView, ScalingView, problems
from gateway.auth.api_keys import KeyScope
from gateway.fairness.turns import SharedWork
from gateway.problems import overloaded
from gateway.services import Services

_MODELS = "Only the group of workers that are pinned to these models, as in `WORKER_MODELS`; empty: the common one."


def health_routes(services: Services) -> APIRouter:
    """Return the routes of probes and metrics."""
    router = APIRouter(tags=["operations"])
    guard = services.guard
    of_metrics = [] if services.settings.metrics_open else guard.dependencies(KeyScope.METRICS)
    # Rendering takes some 10 ms, and many callers may ask at a time.
    exposition = SharedWork(partial(generate_latest, services.metrics.registry))

    @router.get(
        "/health",
        summary="A summary for people",
        dependencies=guard.dependencies(KeyScope.READ),
        response_class=Response,
        responses={200: {"model": HealthView}, 503: {"model": HealthView, "description": "Not serving."}},
    )
    async def health() -> Response:
        trouble = await services.trouble()
        stats, catalog = services.monitor.stats, services.catalog
        content = {
            "status": "unavailable" if trouble else "ok",
            "reason": trouble,
            "broker_up": stats.broker_up,
            "workers": {"live": len(services.workers.heartbeats), "slots": services.workers.slots},
            "queue": {"depth": stats.depth, "oldest_seconds": stats.oldest_seconds, "unacked": stats.unacked},
            "jobs": {"accepted": stats.jobs_accepted, "open": stats.jobs_open, **stats.jobs_ended},
            "model": catalog.default_model,
            "version": catalog.aliases(catalog.default_model).get(catalog.alias_of(catalog.default_model)),
        }
        return json_response(content, 503 if trouble else 200)

    @router.get("/livez", summary="Whether this process runs", response_class=Response)
    async def livez() -> Response:
        return json_response({"status": "ok"})

    @router.get(
        "/readyz",
        summary="Whether predictions are served: a sample row goes through the queue and back",
        response_class=Response,
        responses=problems(503),
    )
    async def readyz() -> Response:
        trouble = await services.trouble()
        if trouble:
            raise overloaded("not_ready", trouble, 1)
        return json_response({"status": "ok"})

    @router.get(
        "/ping",
        summary="Whether predictions are served, as SageMaker asks",
        response_class=Response,
        responses=problems(503),
    )
    async def ping() -> Response:
        return await readyz()

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        dependencies=of_metrics,
    )
    async def metrics() -> Response:
        await services.monitor.refresh()
        return Response(await exposition.result(), media_type=CONTENT_TYPE_LATEST)

    @router.get(
        "/scaling",
        summary="How many workers each worker group needs, for an autoscaler",
        response_class=Response,
        responses={200: {"model": ScalingView}, **problems(422, 503)},
        dependencies=of_metrics,
    )
    async def scaling(models: Annotated[list[str], Query(default_factory=list, description=_MODELS)]) -> Response:
        # From what was read half a second ago: asking costs Redis nothing.
        if not services.workers.known:
            raise overloaded("broker_unavailable", "Redis does not answer", 1)
        asked = tuple(sorted(filter(None, ",".join(models).split(","))))
        groups = [group.view for group in services.scaling.groups if not models or group.models == asked]
        return json_response({"worker_groups": groups})

    return router
