"""What the two hot routes share: ASGI applications of their own, counted by model and lane."""

import time
from abc import ABC, abstractmethod
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.answers import job_view
from gateway.catalog import ServedModel
from gateway.errors import Problem
from gateway.jobs import Job
from gateway.service import Service
from shared.contract import Lane

JSON = "application/json"
POLL_AGAIN_SECONDS = "1"
IDEMPOTENCY_KEY_MAX_CHARACTERS = 255


class HotEndpoint(ABC):
    """One of the hot routes. FastAPI's typed routes cost more than the whole way through the queue."""

    lane: Lane

    def __init__(self, service: Service, template: str) -> None:
        self.service = service
        #: The path as a metric label.
        self.template = template
        self._in_progress = service.metrics.in_progress.labels(self.lane.value)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for the model and version in the path, or for the default model."""
        started = time.perf_counter()
        catalog, metrics = self.service.catalog, self.service.metrics
        path: dict[str, Any] = scope.get("path_params") or {}
        name = path.get("name") or catalog.default_model
        self._in_progress.inc()
        try:
            reference = path.get("version")
            served = catalog.served_now(name, reference, _split_key(scope)) or await catalog.get(name, reference)
            response = await self.answer(served, scope, receive, started)
            metrics.succeeded(name, self.lane, time.perf_counter() - started)
        except Problem as problem:
            metrics.ended_with(name, self.lane, problem.status, problem.code)
            response = problem.response()
        finally:
            self._in_progress.dec()
        await response(scope, receive, send)

    @abstractmethod
    async def answer(self, served: ServedModel, scope: Scope, receive: Receive, started: float) -> Response:
        """The answer to a request that came at `started` (`time.perf_counter()`).

        Raises:
            Problem: if there is none.
        """


def _split_key(scope: Scope) -> str:
    for header, value in scope["headers"]:
        if header == b"x-split-key":
            return str(value, "latin-1")
    return ""


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


def job_response(job: Job, status: int, headers: dict[str, str] | None = None) -> Response:
    """A job as an answer."""
    headers = dict(headers or {})
    if status == 202:
        headers["Location"] = f"/jobs/{job.id}"
    if not job.ended:
        headers["Retry-After"] = POLL_AGAIN_SECONDS
    return Response(orjson.dumps(job_view(job)), status, headers, JSON)


def unknown_job() -> Problem:
    """404: never accepted, or its record aged out."""
    return Problem(404, "unknown_job", "no job has this id, or it ended too long ago")
