"""Successful HTTP responses, and their JSON."""

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import orjson
from starlette.responses import Response

from gateway.api.predictions import encoded, job_prediction
from gateway.edge.headers import HeaderPairs
from gateway.jobs.record import Job
from gateway.problems import Problem
from gateway.web.request_context import RequestContext
from shared.queue.contract import JobStatus

JSON = "application/json"

TIMING_SECONDS_MAX = 1e9
"""Longest time that an answer names; what a worker or a record says may be any number, and not even one."""

POLL_AGAIN_SECONDS = "1"
"""Value of `Retry-After` for a job that has not ended."""


class EncodedResponse(Response):
    """A JSON response with encoded headers: starlette's own constructor costs as much time as the routing."""

    def __init__(
        self,
        body: bytes,
        status: int,
        headers: HeaderPairs,
        content_type: bytes = JSON.encode(),
    ) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), status, headers, JSON)


def prediction_response(members: dict[str, Any], model: str, version: str, parts: dict[str, float]) -> Response:
    """Return the response with a prediction.

    Args:
        members: members of the body as of `predicted` or `written`.
        model: name of the model.
        version: version that predicted.
        parts: times of the request, as of `timing`.
    """
    content = {**members, "model": model, "version": version, "timing": parts}
    # Of a single row nothing is in pieces.
    body = orjson.dumps(content) if "prediction" in members else encoded(content)
    return EncodedResponse(body, 200, ((b"server-timing", server_timing(parts).encode()),))


async def job_response(
    job: Job, status: int, context: RequestContext, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response with a job; with 202, the job's `Location` too.

    Raises:
        RecordDamaged: if the outcome is not that of a worker.
    """
    all_headers = dict(headers or {})
    if status == 202:
        all_headers["Location"] = f"{context.prefix}/jobs/{job.id}"
    if not job.ended:
        all_headers["Retry-After"] = POLL_AGAIN_SECONDS
    result = await job_prediction(job, context) if _has_result(job) else None
    return Response(encoded(job_view(job, result)), status, all_headers, JSON)


def timing(queue_seconds: float, compute_seconds: float, total_seconds: float) -> dict[str, float]:
    """Return the times of a request in milliseconds; the rest of the total is the way to the worker and back.

    Three clocks measured them: the total is the gateway's, compute the worker's, and queue ends on the broker's, whose
    reading may be wrong by milliseconds. What must add up is made to do so here.
    """
    total = _microseconds(total_seconds)
    compute = min(_microseconds(compute_seconds), total)
    queue = _microseconds(queue_seconds)
    if queue + compute > total:
        # A microsecond less: the sum of two rounded numbers may be greater in its last bit.
        queue = max(0, total - compute - 1)
    return {"queue_ms": queue / 1000, "compute_ms": compute / 1000, "total_ms": total / 1000}


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6 + 0.5) if 0.0 < seconds < TIMING_SECONDS_MAX else 0


def server_timing(parts: dict[str, float]) -> str:
    """Return these times as a `Server-Timing` header."""
    return f"queue;dur={parts['queue_ms']}, compute;dur={parts['compute_ms']}, total;dur={parts['total_ms']}"


def _has_result(job: Job) -> bool:
    return job.status is JobStatus.SUCCEEDED and job.outcome_json is not None


def job_view(job: Job, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a job as its caller sees it, with the result that is given.

    Members for what has not happened yet are absent.
    """
    view: dict[str, Any] = {
        "id": job.id,
        "status": job.status.value,
        "model": job.model,
        "version": job.version,
        "attempt": job.attempt,
        "accepted_at": _iso(job.accepted_at),
    }
    if job.started_at is not None:
        view["started_at"] = _iso(job.started_at)
    if job.ended_at is not None:
        view["ended_at"] = _iso(job.ended_at)
        view["timing"] = timing(
            (job.started_at or job.ended_at) - job.accepted_at,
            job.compute_seconds or 0.0,
            job.ended_at - job.accepted_at,
        )
    if result is not None:
        view["result"] = result
    elif job.status is JobStatus.FAILED and "error" in (outcome := job.outcome or {}):
        view["error"] = outcome["error"]
    if job.result_dropped:
        view["result_expired"] = True
        # The positions of the failing rows are gone, and none would mean all.
        view.get("error", {}).pop("rows", None)
    return view


def listed_view(job: Job) -> dict[str, Any]:
    """Return a job as a list shows it: without its result and the positions of failing rows."""
    view = job_view(job)
    view.get("error", {}).pop("rows", None)
    return view


def result_expired(job: Job) -> Problem:
    """Return the answer for a job that has succeeded and whose result is gone, with the rest of its view."""
    detail = "the job succeeded, and its result made room for newer ones"
    return Problem(410, "result_expired", detail, extra={"job": job_view(job)})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
