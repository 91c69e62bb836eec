"""`POST /predict`: someone waits for the answer."""

import math
import re
import time
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.answers import predicted, server_timing, timing
from gateway.errors import Problem, of_result
from gateway.requests import read_json
from gateway.routes.jobs import idempotency_key, job_response
from gateway.service import Service
from shared.contract import JobStatus, Lane

JSON = "application/json"
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?")


class PredictEndpoint:
    """An ASGI application of its own: FastAPI's typed route costs more than the whole way through the queue."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        metrics = self._service.metrics
        in_progress = metrics.in_progress.labels(Lane.INTERACTIVE.value)
        in_progress.inc()
        try:
            response = await self._answer(scope, receive, started)
        except Problem as problem:
            metrics.ended_with(Lane.INTERACTIVE, problem.status, problem.code)
            response = problem.response()
        finally:
            in_progress.dec()
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, started: float) -> Response:
        service = self._service
        body = await read_json(scope, receive, service.settings.body_max_bytes)
        parsed = service.parser.parse(body)
        prefer = Headers(scope=scope).get("prefer", "")
        if "wait" in prefer or "respond-async" in prefer:
            return await self._as_job(scope, parsed.rows, parsed.single, prefer)
        answer = await service.coalescer.predict(parsed.rows, self._deadline_seconds(scope))
        result: dict[str, Any] = answer.result
        if "error" in result:
            raise of_result(result["error"])
        total_seconds = time.perf_counter() - started
        parts = timing(answer.started_at - answer.accepted_at, answer.compute_seconds, total_seconds)
        manifest = service.manifest
        content = {
            **predicted(manifest, result, parsed.single),
            "model": manifest.name,
            "version": manifest.version,
            "timing": parts,
        }
        service.metrics.succeeded(Lane.INTERACTIVE, total_seconds)
        return Response(orjson.dumps(content), 200, {"Server-Timing": server_timing(parts)}, JSON)

    async def _as_job(self, scope: Scope, rows: list[Any], single: bool, prefer: str) -> Response:
        """RFC 7240: the caller rather takes a job than an error when it takes longer."""
        service = self._service
        key = idempotency_key(scope)
        found = _WAIT.search(prefer)
        wait_seconds = min(float(found[1]), service.settings.wait_max_seconds) if found else 0.0
        applied = f"wait={wait_seconds:g}" if found else "respond-async"
        job_id, _ = await service.jobs.submit(service.manifest, rows, single, key)
        job = await service.jobs.wait(job_id, wait_seconds)
        if job is None:
            raise Problem(503, "broker_unavailable", "the job was accepted, and its record can't be read")
        headers = {"Preference-Applied": applied}
        if job.status is not JobStatus.SUCCEEDED or job.outcome is None:
            return job_response(service, job, 202, headers)
        parts = timing(
            (job.started_at or job.accepted_at) - job.accepted_at,
            job.compute_seconds or 0.0,
            (job.ended_at or job.accepted_at) - job.accepted_at,
        )
        content = {
            **predicted(service.manifest, job.outcome, single),
            "model": job.model,
            "version": job.version,
            "timing": parts,
        }
        headers |= {"Server-Timing": server_timing(parts), "Content-Location": f"/jobs/{job.id}"}
        return Response(orjson.dumps(content), 200, headers, JSON)

    def _deadline_seconds(self, scope: Scope) -> float:
        settings = self._service.settings
        query: bytes = scope["query_string"]
        if not query:
            return settings.predict_deadline_seconds
        asked = parse_qs(query.decode("latin-1")).get("deadline")
        if asked is None:
            return settings.predict_deadline_seconds
        try:
            seconds = float(asked[-1])
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise Problem(422, "invalid_parameter", "deadline is a positive number of seconds")
        return min(seconds, settings.wait_max_seconds)
