"""`/jobs`: submit, poll, list, cancel, forget."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator
from starlette.responses import Response

from gateway.api.endpoint import HotEndpoint, idempotency_key, reference_of
from gateway.api.responses import (
    POLL_AGAIN_SECONDS,
    EncodedResponse,
    job_response,
    json_response,
    listed_view,
    result_expired,
)
from gateway.api.schemas import DELETE_JOB, GET_JOB, JobList, JobView, job_links, problems
from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.jobs.listing import CURSOR_PATTERN, JobFilter
from gateway.jobs.service import Deletion
from gateway.problems import Problem
from gateway.services import Services
from gateway.web.hot_request import HotRequest
from gateway.web.request_context import context_of
from headrace.models.manifest import IDENTIFIER_PATTERN
from shared.observability.log_context import bind
from shared.queue.contract import JobStatus, Lane

LISTED, LISTED_MAX = 50, 500
"""Jobs in a page, unless the caller says how many, and at most."""


def _with_date(text: str) -> str:
    """Return the text of a date and time; pydantic would take a number too.

    Raises:
        ValueError: if there is no time after a date.
    """
    if text[10:11] not in ("T", "t"):
        raise ValueError("not a date and a time of RFC 3339")
    return text


Time = Annotated[AwareDatetime, BeforeValidator(_with_date)]

JobId = Annotated[str, Path(max_length=64, description="The id in the answer to the submission.")]


class SubmitEndpoint(HotEndpoint):
    """`POST /jobs`."""

    lane = Lane.BULK
    required_scope = KeyScope.JOBS

    async def serve(self, request: HotRequest, served: ServedModel, body: bytes) -> None:
        """Answer with 202 and a durable job."""
        services, context, manifest = self.services, request.context, served.manifest
        key = idempotency_key(request.headers)
        parsed = await self.parse(request, served, body)
        # Redis' client needs a task.
        await asyncio.sleep(0)
        job_id, replay = await services.jobs.submit(
            manifest, [*parsed.rows], parsed.single, key, context.owner, context.trace, reference_of(request)
        )
        if replay:
            job = await services.job_reader.get(job_id, context.owner, context.hold_answer)
            if job is None:
                raise _unknown_job()
            self.respond(request, await job_response(job, 202, context, {"Idempotent-Replayed": "true"}))
            return
        content = {"id": job_id, "status": JobStatus.QUEUED.value, "model": manifest.name, "version": manifest.version}
        location = (b"location", f"{context.prefix}/jobs/{job_id}".encode())
        retry_after = (b"retry-after", POLL_AGAIN_SECONDS.encode())
        self.respond(request, EncodedResponse(orjson.dumps(content), 202, (location, retry_after)))


def job_routes(services: Services) -> APIRouter:
    """Return the routes that look jobs up, and cancel or forget them."""
    router = APIRouter(tags=["jobs"], dependencies=services.guard.dependencies(KeyScope.JOBS))
    wait_max = services.settings.wait_max_seconds

    @router.get(
        "/jobs/{job_id}",
        operation_id=GET_JOB,
        summary="A job's status and outcome",
        response_class=Response,
        responses={200: {"model": JobView, "links": job_links()}, **problems(404, 410, 422, 500, 503)},
    )
    async def get_job(
        request: Request,
        job_id: JobId,
        wait: Annotated[float, Query(ge=0, le=wait_max, description="Seconds to wait for the outcome.")] = 0,
    ) -> Any:
        bind(job_id=job_id)
        context = context_of(request.scope)
        owner, reader, hold = context.owner, services.job_reader, context.hold_answer
        job = await (reader.wait(job_id, wait, owner, hold) if wait else reader.get(job_id, owner, hold))
        if job is None:
            raise _unknown_job()
        if job.status is JobStatus.SUCCEEDED and job.result_dropped:
            raise result_expired(job)
        return await job_response(job, 200, context)

    @router.delete(
        "/jobs/{job_id}",
        operation_id=DELETE_JOB,
        summary="Cancel a job, or forget an ended one",
        description="Cancelled while it is queued, a job never runs; while it runs, its result is thrown away. Of an "
        "ended job, record, result and `Idempotency-Key` are deleted; its id is unknown from then on.",
        response_class=Response,
        responses={
            200: {"description": "Cancelled.", "model": JobView, "links": job_links()},
            204: {"description": "It had ended, and is forgotten."},
            **problems(404, 422, 500, 503),
        },
    )
    async def delete_job(request: Request, job_id: JobId) -> Any:
        bind(job_id=job_id)
        context = context_of(request.scope)
        deletion = await services.jobs.delete(job_id, context.owner)
        if deletion is None:
            raise _unknown_job()
        if deletion is Deletion.FORGOTTEN:
            return Response(status_code=204)
        job = await services.job_reader.get(job_id, context.owner, context.hold_answer)
        if job is None:
            raise _unknown_job()
        return await job_response(job, 200, context)

    @router.get(
        "/jobs",
        operation_id="list_jobs",
        summary="The caller's jobs, the last one first",
        description="Jobs without results, in the order of acceptance; `failed`, `cancelled` and `expired` ones in the "
        "order in which they ended. If jobs that fit are rare, or errors are long, a page may hold few or none and "
        "still have a `next`.",
        response_class=Response,
        responses={200: {"model": JobList}, **problems(422, 503)},
    )
    async def list_jobs(
        request: Request,
        status: Annotated[JobStatus | None, Query(description="Only jobs with this status.")] = None,
        model: Annotated[str | None, Query(pattern=IDENTIFIER_PATTERN, description="Only jobs of this model.")] = None,
        since: Annotated[Time | None, Query(description="Only jobs accepted at this time or later.")] = None,
        limit: Annotated[int, Query(ge=1, le=LISTED_MAX, description="Most jobs in the page.")] = LISTED,
        cursor: Annotated[str | None, Query(pattern=CURSOR_PATTERN, description="`next` of the page before.")] = None,
    ) -> Any:
        wanted = JobFilter(status, model, since.timestamp() if since is not None else None)
        page = await services.job_listing.page(wanted, limit, cursor, context_of(request.scope).owner)
        content: dict[str, Any] = {"jobs": [listed_view(job) for job in page.jobs]}
        if page.cursor is not None:
            content["next"] = page.cursor
        return json_response(content)

    return router


def _unknown_job() -> Problem:
    """Return 404: the job was never accepted, or its record expired."""
    return Problem(404, "unknown_job", "no job has this id, or it ended too long ago")
