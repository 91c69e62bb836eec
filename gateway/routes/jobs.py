"""`/jobs`: submit, poll, cancel."""

import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.answers import job_view
from gateway.errors import Problem
from gateway.jobs import Job
from gateway.requests import read_json
from gateway.schemas import JobView, problems
from gateway.service import Service
from shared.contract import JobStatus, Lane

IDEMPOTENCY_KEY_MAX_CHARACTERS = 255
POLL_AGAIN_SECONDS = "1"

JobId = Annotated[str, Path(max_length=64, description="The id that the submission was answered with.")]


def job_response(service: Service, job: Job, status: int, headers: dict[str, str] | None = None) -> Response:
    """A job as an answer."""
    headers = dict(headers or {})
    if status == 202:
        headers["Location"] = f"/jobs/{job.id}"
    if not job.ended:
        headers["Retry-After"] = POLL_AGAIN_SECONDS
    return Response(orjson.dumps(job_view(job, service.manifest)), status, headers, "application/json")


def unknown_job() -> Problem:
    """404: never accepted, or its record aged out."""
    return Problem(404, "unknown_job", "no job has this id, or it ended too long ago")


def idempotency_key(scope: Scope) -> str | None:
    """The caller's key, if there is one.

    Raises:
        Problem: 422 if it can't be one.
    """
    key = Headers(scope=scope).get("idempotency-key")
    if key is not None and not 0 < len(key) <= IDEMPOTENCY_KEY_MAX_CHARACTERS:
        raise Problem(
            422, "invalid_parameter", f"an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_MAX_CHARACTERS} characters"
        )
    return key


class SubmitEndpoint:
    """`POST /jobs`, an ASGI application of its own like `/predict`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        metrics = self._service.metrics
        in_progress = metrics.in_progress.labels(Lane.BULK.value)
        in_progress.inc()
        try:
            response = await self._answer(scope, receive)
            metrics.succeeded(Lane.BULK, time.perf_counter() - started)
        except Problem as problem:
            metrics.ended_with(Lane.BULK, problem.status, problem.code)
            response = problem.response()
        finally:
            in_progress.dec()
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        service = self._service
        key = idempotency_key(scope)
        body = await read_json(scope, receive, service.settings.body_max_bytes)
        parsed = service.parser.parse(body)
        job_id, replay = await service.jobs.submit(service.manifest, parsed.rows, parsed.single, key)
        headers = {"Location": f"/jobs/{job_id}"}
        if replay:
            headers["Idempotent-Replayed"] = "true"
            job = await service.jobs.get(job_id)
            if job is None:
                raise unknown_job()
            return job_response(service, job, 202, headers)
        headers["Retry-After"] = POLL_AGAIN_SECONDS
        manifest = service.manifest
        content = {"id": job_id, "status": JobStatus.QUEUED.value, "model": manifest.name, "version": manifest.version}
        return Response(orjson.dumps(content), 202, headers, "application/json")


def job_routes(service: Service) -> APIRouter:
    """Looking a job up and cancelling it."""
    router = APIRouter(tags=["jobs"])
    wait_max = service.settings.wait_max_seconds

    @router.get(
        "/jobs/{job_id}",
        summary="A job's status and outcome",
        response_class=Response,
        responses={200: {"model": JobView}, **problems(404, 422, 503)},
    )
    async def get_job(
        job_id: JobId,
        wait: Annotated[float, Query(ge=0, le=wait_max, description="Seconds to wait for the outcome.")] = 0,
    ) -> Any:
        job = await (service.jobs.wait(job_id, wait) if wait else service.jobs.get(job_id))
        if job is None:
            raise unknown_job()
        return job_response(service, job, 200)

    @router.delete(
        "/jobs/{job_id}",
        summary="Cancel a job",
        description="Cancelled while it is queued, it never runs; while it runs, its result is thrown away.",
        response_class=Response,
        responses={200: {"model": JobView}, **problems(404, 409, 503)},
    )
    async def cancel_job(job_id: JobId) -> Any:
        status = await service.jobs.cancel(job_id)
        if status is None:
            raise unknown_job()
        if status is not JobStatus.CANCELLED:
            raise Problem(409, "job_ended", f"the job has ended: {status.value}")
        job = await service.jobs.get(job_id)
        if job is None:
            raise unknown_job()
        return job_response(service, job, 200)

    return router
