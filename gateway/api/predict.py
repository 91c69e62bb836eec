"""`POST /predict`: the caller waits for the answer."""

import asyncio
import math
import re
import time
from functools import partial
from urllib.parse import parse_qs

from starlette.responses import Response

from gateway.api.endpoint import HotEndpoint, idempotency_key, reference_of
from gateway.api.predictions import job_prediction, predicted, written
from gateway.api.responses import job_response, prediction_response, result_expired, timing
from gateway.api.statuses import SOON_SECONDS, problem_of_result
from gateway.auth.api_keys import KeyScope
from gateway.auth.guard import require
from gateway.batching.calls import Answer
from gateway.catalog.row_parser import ParsedRows
from gateway.catalog.served_model import ServedModel
from gateway.errors import DeadlineExceeded
from gateway.fairness.answers import PIECE_BYTES
from gateway.problems import PARAMETERS_MAX, Problem, overloaded, too_many_parameters
from gateway.web.hot_request import HotRequest
from shared.queue.contract import JobStatus, Lane

PREFER_CHARACTERS_MAX = 1_000
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
"""One of the preferences of a `Prefer` header, which commas separate; a quoted text may hold some."""

_RESPOND_ASYNC = re.compile(r"\s*respond-async\s*(?:;.*)?", re.IGNORECASE)
_WAIT = re.compile(r"\s*wait\s*=\s*(?:(\d{1,6})|\"\s*(\d{1,6})\s*\")\s*(?:;.*)?", re.IGNORECASE)


class PredictEndpoint(HotEndpoint):
    """`POST /predict`."""

    lane = Lane.INTERACTIVE
    required_scope = KeyScope.PREDICT

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
        deadline_seconds = self._deadline_seconds(request.query)
        # A request that is refused with one row would be refused with more: an overload costs no parsing.
        served.batcher.admit(1, deadline_seconds, context.owner)
        asked_at = time.perf_counter()
        parsed = await self.parse(request, served, body, deadline_seconds)
        # A large body may have waited for its turn.
        left_seconds = deadline_seconds - (time.perf_counter() - asked_at)
        if left_seconds <= 0:
            raise DeadlineExceeded(deadline_seconds)
        if not parsed.single or served.answer_row_bytes > PIECE_BYTES:
            context.hold_answer(len(parsed.rows) * served.answer_row_bytes)

        def on_end(outcome: Answer | Exception) -> None:
            if isinstance(outcome, Exception):
                request.fail(outcome)
            elif parsed.single:
                request.call(self._answer_row, request, served, parsed, outcome)
            elif not request.ended:
                request.run(self._answer_rows(request, served, parsed, outcome))

        call = served.batcher.enqueue(parsed.rows, left_seconds, on_end, context.trace, context.owner)
        request.at_end(partial(served.batcher.drop, call))

    def _answer_row(self, request: HotRequest, served: ServedModel, parsed: ParsedRows, answer: Answer) -> None:
        """Respond with the answer to a single flat row."""
        seconds, parts = self._completed(request, served, parsed, answer)
        members = predicted(served.outputs, answer.result, single=True)
        manifest = served.manifest
        self.respond(request, prediction_response(members, manifest.name, manifest.version, parts), seconds)

    async def _answer_rows(self, request: HotRequest, served: ServedModel, parsed: ParsedRows, answer: Answer) -> None:
        """Respond with the answer to instances."""
        seconds, parts = self._completed(request, served, parsed, answer)
        async with request.context.turn_to_write():
            members = await written(served.outputs, answer.result)
        manifest = served.manifest
        self.respond(request, prediction_response(members, manifest.name, manifest.version, parts), seconds)

    def _completed(
        self, request: HotRequest, served: ServedModel, parsed: ParsedRows, answer: Answer
    ) -> tuple[float, dict[str, float]]:
        """Return the time that a request took, and the parts of it; a version on trial gets its rows, too.

        Raises:
            Problem: if the answer is an error.
        """
        result, manifest, trace = answer.result, served.manifest, request.context.trace
        if trace is not None:
            trace.end_queue(answer.started_at)
        if "error" in result:
            raise problem_of_result(result["error"])
        seconds = time.perf_counter() - request.started
        parts = timing(answer.started_at - answer.accepted_at, answer.compute_seconds, seconds)
        if trace is not None:
            trace.describe(manifest.name, manifest.version, parts)
        shadow = self.services.catalog.shadow_of(manifest.name, reference_of(request), served)
        if shadow is not None:
            self.services.shadows.add(served, shadow, parsed, result["predictions"])
        return seconds, parts

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
            served.manifest, parsed.rows, parsed.single, key, owner, context.trace, reference_of(request)
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

    def _deadline_seconds(self, query: bytes) -> float:
        settings = self.services.settings
        if not query:
            return settings.predict_deadline_seconds
        try:
            given = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
        except ValueError:
            raise too_many_parameters() from None
        asked = given.get("deadline")
        if asked is None:
            return settings.predict_deadline_seconds
        try:
            # float() accepts underscores, as Python's own literals do.
            seconds = math.nan if "_" in asked[-1] else float(asked[-1])
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise Problem(422, "invalid_parameter", "deadline is a positive number of seconds")
        return min(seconds, settings.wait_max_seconds)


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
