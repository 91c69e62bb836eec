"""What the hot routes share: ASGI applications of their own, found by path, counted by model and lane."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.responses import job_view
from gateway.api.statuses import problem_of
from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.errors import RequestError
from gateway.jobs.record import Job
from gateway.problems import CONTENT_TYPE, Problem
from gateway.services import Services
from gateway.web.request_context import HeaderPairs, context_of
from shared.queue.contract import Lane

JSON = "application/json"
POLL_AGAIN_SECONDS = "1"
IDEMPOTENCY_KEY_MAX_CHARACTERS = 255

RequestHeaders = Mapping[bytes, bytes]
"""Headers of a request as ASGI has them, names in lower case."""


class EncodedResponse(Response):
    """A JSON answer whose headers are bytes already: starlette's own constructor costs as much as the routing."""

    def __init__(
        self,
        body: bytes,
        status: int,
        headers: HeaderPairs,
        content_type: bytes = b"application/json",
    ) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, in one write where that can be done."""
        write = context_of(scope).write_response
        if write is None or not write(self.status_code, self.raw_headers, bytes(self.body)):
            await super().__call__(scope, receive, send)


class HotEndpoint(ABC):
    """One of the hot routes. FastAPI's typed routes cost more than the whole way through the queue."""

    lane: Lane
    needed: KeyScope
    """What a key must be good for."""

    def __init__(self, services: Services, template: str) -> None:
        self.service = services
        #: The path as a metric label.
        self.template = template

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for the model and version in the path, or for the default model."""
        started = time.perf_counter()
        # As the router says it: what the request is counted as.
        scope["endpoint"] = self
        catalog, metrics, bodies = self.service.catalog, self.service.metrics, self.service.body_reader
        path: Mapping[str, Any] = scope.get("path_params") or {}
        headers = dict(scope["headers"])
        name = path.get("name") or catalog.default_model
        held_bytes = 0
        metrics.in_progress[self.lane] += 1
        try:
            if self.service.guard.required:
                self.service.guard.admit(scope, headers, self.needed)
            reference = path.get("version")
            split_key = headers.get(b"x-split-key", b"").decode("latin-1")
            served = catalog.served_now(name, reference, split_key) or await catalog.get(name, reference)
            body = await bodies.read_json(headers, receive)
            bodies.hold(len(body))
            held_bytes = len(body)
            response, seconds = await self.answer(served, scope, headers, body, started)
            metrics.succeeded(name, self.lane, seconds)
        except (Problem, RequestError) as error:
            problem = error if isinstance(error, Problem) else problem_of(error)
            context_of(scope).problem = problem.code
            metrics.ended_with(name, self.lane, problem.status, problem.code)
            problem_headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
            response = EncodedResponse(problem.body(), problem.status, problem_headers, CONTENT_TYPE.encode())
        finally:
            bodies.release(held_bytes)
            metrics.in_progress[self.lane] -= 1
        await response(scope, receive, send)

    @abstractmethod
    async def answer(
        self, served: ServedModel, scope: Scope, headers: RequestHeaders, body: bytes, started: float
    ) -> tuple[Response, float]:
        """The answer to a request that came at `started` (`time.perf_counter()`), and the seconds that it took.

        What it says of its time itself and what is counted are the same number.

        Raises:
            Problem: if there is none.
            RequestError: for the same reason, found outside the HTTP part.
        """


@lru_cache(maxsize=1024)
def match_path(path: str) -> tuple[str, Mapping[str, str]]:
    """The template that a path would fit and its parameters, whatever the resource; empty if it is of another form."""
    match path.split("/"):
        case ["", resource]:
            return f"/{resource}", {}
        case ["", "models", name, resource] if name:
            return f"/models/{{name}}/{resource}", {"name": name}
        case ["", "models", name, "versions", version, resource] if name and version:
            return f"/models/{{name}}/versions/{{version}}/{resource}", {"name": name, "version": version}
    return "", {}


def idempotency_key(headers: RequestHeaders) -> str | None:
    """The caller's key, if there is one.

    Raises:
        Problem: 422 if it can't be one.
    """
    key = headers.get(b"idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= IDEMPOTENCY_KEY_MAX_CHARACTERS:
        raise Problem(
            422, "invalid_parameter", f"an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_MAX_CHARACTERS} characters"
        )
    return key.decode("latin-1")


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
