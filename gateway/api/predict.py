"""`POST /predict`: someone waits for the answer."""

import math
import re
import time
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.responses import Response
from starlette.types import Scope

from gateway.api.endpoint import EncodedResponse, HotEndpoint, RequestHeaders, idempotency_key, job_response
from gateway.api.responses import job_prediction, outputs_of, predicted, server_timing, timing
from gateway.api.statuses import SOON_SECONDS, problem_of_result
from gateway.auth.api_keys import KeyScope
from gateway.auth.guard import require
from gateway.catalog.row_parser import ParsedRows
from gateway.catalog.served_model import ServedModel
from gateway.problems import Problem, overloaded
from gateway.web.request_context import RequestContext, context_of
from shared.queue.contract import JobStatus, Lane

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?")


class PredictEndpoint(HotEndpoint):
    """Predictions for whoever waits for them."""

    lane = Lane.INTERACTIVE
    needed = KeyScope.PREDICT

    async def answer(
        self, served: ServedModel, scope: Scope, headers: RequestHeaders, body: bytes, started: float
    ) -> tuple[Response, float]:
        """200 with the prediction; with `Prefer`, possibly 202 with a job."""
        context = context_of(scope)
        prefer = headers.get(b"prefer", b"").decode("latin-1")
        if "wait" in prefer or "respond-async" in prefer:
            # The job can be picked up with this scope only.
            require(context, KeyScope.JOBS)
            parsed = served.parser.parse(body)
            response = await self._as_job(served, parsed, prefer, idempotency_key(headers), context)
            return response, time.perf_counter() - started
        deadline_seconds = self._deadline_seconds(scope)
        # What is refused for one row would be so for more: in an overload nothing of it is parsed.
        served.batcher.admit(1, deadline_seconds)
        parsed = served.parser.parse(body)
        trace = context.trace
        answer = await served.batcher.predict(parsed.rows, deadline_seconds, trace, context.wait_for)
        result: dict[str, Any] = answer.result
        if "error" in result:
            raise problem_of_result(result["error"])
        seconds = time.perf_counter() - started
        parts = timing(answer.started_at - answer.accepted_at, answer.compute_seconds, seconds)
        manifest = served.manifest
        if trace is not None:
            trace.describe(manifest.name, manifest.version, parts)
        reference = (scope.get("path_params") or {}).get("version")
        shadow = self.service.catalog.shadow_of(manifest.name, reference, served)
        if shadow is not None:
            self.service.shadows.add(
                manifest.name, shadow.manifest.version, manifest.version, parsed.rows, result["predictions"]
            )
        members = predicted(outputs_of(manifest), result, parsed.single)
        return _response(members, manifest.name, manifest.version, parts), seconds

    async def _as_job(
        self, served: ServedModel, parsed: ParsedRows, prefer: str, key: str | None, context: RequestContext
    ) -> Response:
        """RFC 7240: the caller rather takes a job than an error when it takes longer."""
        services = self.service
        found = _WAIT.search(prefer)
        wait_seconds = min(float(found[1]), services.settings.wait_max_seconds) if found else 0.0
        headers = {"Preference-Applied": f"wait={wait_seconds:g}" if found else "respond-async"}
        owner = context.owner
        job_id, _ = await services.jobs.submit(served.manifest, parsed.rows, parsed.single, key, owner, context.trace)
        job = await services.jobs.waiters.wait(job_id, wait_seconds, owner)
        if job is None:
            raise overloaded("broker_unavailable", "the job was accepted, and its record can't be read", SOON_SECONDS)
        if job.status is not JobStatus.SUCCEEDED:
            return job_response(job, 202, headers)
        started_at, ended_at = job.started_at or job.accepted_at, job.ended_at or job.accepted_at
        parts = timing(started_at - job.accepted_at, job.compute_seconds or 0.0, ended_at - job.accepted_at)
        headers["Content-Location"] = f"/jobs/{job.id}"
        response = _response(job_prediction(job), job.model, job.version, parts)
        response.headers.update(headers)
        return response

    def _deadline_seconds(self, scope: Scope) -> float:
        settings = self.service.settings
        query: bytes = scope["query_string"]
        asked = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("deadline") if query else None
        if asked is None:
            return settings.predict_deadline_seconds
        try:
            # float() would take the underscores of Python's own notation.
            seconds = math.nan if "_" in asked[-1] else float(asked[-1])
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise Problem(422, "invalid_parameter", "deadline is a positive number of seconds")
        return min(seconds, settings.wait_max_seconds)


def _response(members: dict[str, Any], model: str, version: str, parts: dict[str, float]) -> Response:
    content = {**members, "model": model, "version": version, "timing": parts}
    return EncodedResponse(orjson.dumps(content), 200, ((b"server-timing", server_timing(parts).encode()),))
