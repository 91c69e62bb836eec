"""`POST /predict`: the caller waits for the answer."""

import asyncio
import re
from functools import partial

from starlette.responses import Response

from gateway.api.endpoint import idempotency_key, reference_of
from gateway.api.interactive import InteractiveEndpoint
from gateway.api.predictions import job_prediction, predicted, written
from gateway.api.responses import job_response, prediction_response, result_expired, timing
from gateway.api.statuses import SOON_SECONDS
from gateway.auth.api_keys import KeyScope
from gateway.auth.guard import require
from gateway.batching.calls import Answer
from gateway.catalog.row_parser import ParsedRows
from gateway.catalog.served_model import ServedModel
from gateway.problems import Problem, overloaded
from gateway.web.hot_request import HotRequest
from shared.queue.contract import JobStatus

PREFER_CHARACTERS_MAX = 1_000
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
"""One of the preferences of a `Prefer` header, which commas separate; a quoted text may hold some."""

_RESPOND_ASYNC = re.compile(r"\s*respond-async\s*(?:;.*)?", re.IGNORECASE)
_WAIT = re.compile(r"\s*wait\s*=\s*(?:(\d{1,6})|\"\s*(\d{1,6})\s*\")\s*(?:;.*)?", re.IGNORECASE)


class PredictEndpoint(InteractiveEndpoint[ParsedRows]):
    """`POST /predict`."""

    async def serve(self, request: HotRequest, served: ServedModel, body: bytes) -> None:
        """Answer with 200 and the prediction; with `Prefer`, possibly with 202 and a job."""
        context = request.context
        prefer = request.headers.get(b"prefer")
        wait_seconds = None if prefer is None else _preferred_seconds(prefer.decode("latin-1"))
        if wait_seconds is not None:
            # The caller needs this scope to fetch the job.
            require(context, KeyScope.JOBS)
            parsed = await self.parse(request, served, body)
            self.respond(request, await self._as_job(request, served, parsed, wait_seconds))
            return
        deadline_seconds = self.deadline_seconds(request.query)
        parse = partial(self.parse, request, served, body, deadline_seconds)
        await self.predict(request, served, deadline_seconds, parse)

    def on_answer(self, request: HotRequest, served: ServedModel, parsed: ParsedRows, answer: Answer) -> None:
        """Respond with the answer to a single row at once; begin to respond with others."""
        if parsed.single:
            request.call(self._answer_row, request, served, parsed, answer)
        else:
            super().on_answer(request, served, parsed, answer)

    def _answer_row(self, request: HotRequest, served: ServedModel, parsed: ParsedRows, answer: Answer) -> None:
        """Respond with the answer to a single flat row."""
        seconds, parts = self.completed(request, served, parsed, answer)
        members = predicted(served.outputs, answer.result, single=True)
        manifest = served.manifest
        self.respond(request, prediction_response(members, manifest.name, manifest.version, parts), seconds)

    async def answer_rows(self, request: HotRequest, served: ServedModel, parsed: ParsedRows, answer: Answer) -> None:
        """Respond with the answer to instances."""
        seconds, parts = self.completed(request, served, parsed, answer)
        async with request.context.turn_to_write():
            members = await written(served.outputs, answer.result)
        manifest = served.manifest
        self.respond(request, prediction_response(members, manifest.name, manifest.version, parts), seconds)

    async def _as_job(
        self, request: HotRequest, served: ServedModel, parsed: ParsedRows, wait_seconds: float
    ) -> Response:
        """Submit a job, wait so long for it, and answer with its result or with the job."""
        services, context = self.services, request.context
        owner, key = context.owner, idempotency_key(request.headers)
        wait_seconds = min(wait_seconds, services.settings.wait_max_seconds)
        applied = {"Preference-Applied": f"wait={wait_seconds:g}" if wait_seconds >= 0 else "respond-async"}
        # Redis' client needs a task.
        await asyncio.sleep(0)
        job_id, _ = await services.jobs.submit(
            served.manifest, [*parsed.rows], parsed.single, key, owner, context.trace, reference_of(request)
        )
        try:
            job = await services.job_reader.wait(job_id, max(0.0, wait_seconds), owner, context.hold_answer)
        except Problem as problem:
            # The job has its outcome, which can be fetched later.
            problem.headers |= {**applied, "Content-Location": f"/jobs/{job_id}"}
            raise
        if job is None:
            raise overloaded("broker_unavailable", "the job was accepted, and its record can't be read", SOON_SECONDS)
        if job.status is not JobStatus.SUCCEEDED:
            return await job_response(job, 202, context, applied)
        if job.result_dropped:
            raise result_expired(job)
        started_at, ended_at = job.started_at or job.accepted_at, job.ended_at or job.accepted_at
        parts = timing(started_at - job.accepted_at, job.compute_seconds or 0.0, ended_at - job.accepted_at)
        applied["Content-Location"] = f"/jobs/{job.id}"
        members = await job_prediction(job, context)
        response = prediction_response(members, job.model, job.version, parts)
        response.headers.update(applied)
        return response


def _preferred_seconds(prefer: str) -> float | None:
    """Return the seconds for which a `Prefer` header (RFC 7240) lets a job be waited for.

    Negative if it asks for the job at once; None if it asks for no job. Other preferences are ignored.

    Raises:
        Problem: if the header is too long.
    """
    if len(prefer) > PREFER_CHARACTERS_MAX:
        detail = f"the header Prefer has more than {PREFER_CHARACTERS_MAX} characters"
        raise Problem(422, "invalid_parameter", detail)
    preferences = _PREFERENCE.findall(prefer)
    for preference in preferences:
        if found := _WAIT.fullmatch(preference):
            return float(found[1] or found[2])
    return -1.0 if any(map(_RESPOND_ASYNC.fullmatch, preferences)) else None
