"""`/jobs`: submit, poll, cancel."""

import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response
from starlette.types import Scope

from gateway.api.endpoint import HotEndpoint, RequestHeaders, idempotency_key
from gateway.api.responses import POLL_AGAIN_SECONDS, EncodedResponse, job_response
from gateway.api.schemas import CANCEL_JOB, GET_JOB, JobView, job_links, problems
from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.problems import Problem
from gateway.services import Services
from gateway.web.request_context import context_of
from shared.observability.log_context import bind
from shared.queue.contract import JobStatus, Lane

JobId = Annotated[str, Path(max_length=64, description="The id in the answer to the submission.")]


class SubmitEndpoint(HotEndpoint):
    """`POST /jobs`."""

    lane = Lane.BULK
    required_scope = KeyScope.JOBS

    async def answer(
        self, served: ServedModel, scope: Scope, headers: RequestHeaders, body: bytes, started: float
    ) -> tuple[Response, float]:
        """Answer with 202 and a durable job."""
        services = self.services
        key = idempotency_key(headers)
        parsed = served.parser.parse(body)
        context = context_of(scope)
        owner, trace = context.owner, context.trace
        job_id, replay = await services.jobs.submit(served.manifest, parsed.rows, parsed.single, key, owner, trace)
        if replay:
            job = await services.jobs.get(job_id, owner)
            if job is None:
                raise _unknown_job()
            return job_response(job, 202, {"Idempotent-Replayed": "true"}), time.perf_counter() - started
        manifest = served.manifest
        content = {"id": job_id, "status": JobStatus.QUEUED.value, "model": manifest.name, "version": manifest.version}
        location = (b"location", b"/jobs/" + job_id.encode())
        retry_after = (b"retry-after", POLL_AGAIN_SECONDS.encode())
        response = EncodedResponse(orjson.dumps(content), 202, (location, retry_after))
        return response, time.perf_counter() - started


def job_routes(services: Services) -> APIRouter:
    """Return the routes that look a job up and cancel it."""
    router = APIRouter(tags=["jobs"], dependencies=services.guard.dependencies(KeyScope.JOBS))
    wait_max = services.settings.wait_max_seconds

    @router.get(
        "/jobs/{job_id}",
        operation_id=GET_JOB,
        summary="A job's status and outcome",
        response_class=Response,
        responses={200: {"model": JobView, "links": job_links()}, **problems(404, 422, 503)},
    )
    async def get_job(
        request: Request,
        job_id: JobId,
        wait: Annotated[float, Query(ge=0, le=wait_max, description="Seconds to wait for the outcome.")] = 0,
    ) -> Any:
        bind(job_id=job_id)
        owner = context_of(request.scope).owner
        job = await (services.jobs.waiters.wait(job_id, wait, owner) if wait else services.jobs.get(job_id, owner))
        if job is None:
            raise _unknown_job()
        return job_response(job, 200)

    @router.delete(
        "/jobs/{job_id}",
        operation_id=CANCEL_JOB,
        summary="Cancel a job",
        description="Cancelled while it is queued, it never runs; while it runs, its result is thrown away.",
        response_class=Response,
        responses={200: {"model": JobView, "links": job_links()}, **problems(404, 409, 422, 503)},
    )
    async def cancel_job(request: Request, job_id: JobId) -> Any:
        bind(job_id=job_id)
        owner = context_of(request.scope).owner
        status = await services.jobs.cancel(job_id, owner)
        if status is None:
            raise _unknown_job()
        if status is not JobStatus.CANCELLED:
            raise Problem(409, "job_ended", f"the job has ended: {status.value}")
        job = await services.jobs.get(job_id, owner)
        if job is None:
            raise _unknown_job()
        return job_response(job, 200)

    return router


def _unknown_job() -> Problem:
    """Return 404: the job was never accepted, or its record expired."""
    return Problem(404, "unknown_job", "no job has this id, or it ended too long ago")
