"""Base of the hot routes: ASGI apps of their own, found by path, counted by model and lane."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.responses import EncodedResponse
from gateway.api.statuses import problem_of
from gateway.auth.api_keys import KeyScope
from gateway.catalog.row_parser import ParsedRows
from gateway.catalog.served_model import ServedModel
from gateway.errors import RequestError
from gateway.problems import CONTENT_TYPE, Problem, stopping
from gateway.services import Services
from gateway.web.request_context import RequestContext, context_of
from shared.queue.contract import Lane

IDEMPOTENCY_KEY_MAX_CHARACTERS = 255

PATH_MAX_CHARACTERS = 512
"""Characters of a path that is remembered: those of hot routes, with names of 64 characters, are shorter."""

RequestHeaders = Mapping[bytes, bytes]
"""Headers of a request as ASGI has them, names in lower case."""


class HotEndpoint(ABC):
    """A hot route. FastAPI's typed routes cost more time than the whole way through the queue."""

    lane: Lane
    """Lane of the queue that the rows go to."""

    required_scope: KeyScope
    """Scope that the API key must have."""

    def __init__(self, services: Services, template: str) -> None:
        self.services = services
        self.template = template
        """Path with its parameters unfilled, as metric label."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for the model and version in the path, or for the default model."""
        started = time.perf_counter()
        # FastAPI's router sets it too: the middleware reads the metric label from it.
        scope["endpoint"] = self
        services, metrics, body_reader = self.services, self.services.metrics, self.services.body_reader
        path: Mapping[str, Any] = scope.get("path_params") or {}
        headers = dict(scope["headers"])
        name = path.get("name") or services.catalog.default_model
        context = context_of(scope)
        metrics.in_progress[self.lane] += 1
        try:
            if services.guard.required:
                services.guard.admit(scope, headers, self.required_scope)
            reference = path.get("version")
            split_key = headers.get(b"x-split-key", b"").decode("latin-1")
            catalog = services.catalog
            served = catalog.served_now(name, reference, split_key) or await catalog.get(name, reference, context.owner)
            body = await body_reader.read_json(headers, receive, context.owner)
            body_reader.hold(len(body), owner=context.owner)
            context.body_bytes = len(body)
            response, seconds = await self.answer(served, scope, headers, body, started)
            metrics.succeeded(name, self.lane, seconds)
        except (Problem, RequestError, asyncio.CancelledError) as error:
            # A variable of this frame that kept the error would make a cycle, and keep the rows, until the garbage
            # collector finds them: the error's traceback refers to this frame.
            response = self._refusal(error, name, context)
        finally:
            # If the answer is an error, its traceback refers to the context.
            context.awaited = None
            body_reader.release(context.body_bytes, context.owner)
            # The body is not counted any more, and the caller may take a while to read the answer.
            body = b""
            metrics.in_progress[self.lane] -= 1
        await response(scope, receive, send)

    def _refusal(self, error: BaseException, name: str, context: RequestContext) -> Response:
        if isinstance(error, Problem):
            problem = error
        else:
            problem = problem_of(error) if isinstance(error, RequestError) else stopping()
        context.problem = problem.code
        self.services.metrics.ended_with(name, self.lane, problem.status, problem.code)
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        return EncodedResponse(problem.body(), problem.status, headers, CONTENT_TYPE.encode())

    async def parse(self, served: ServedModel, body: bytes, context: RequestContext) -> ParsedRows:
        """Parse a body, a large one in its turn.

        Its rows, which may take several times its memory, are counted until the request is answered.

        Raises:
            RequestError: if the body does not hold rows of the model.
            Problem: 503 if too many rows are held.
        """
        if served.parser.is_small(body):
            parsed = served.parser.parse(body)
        else:
            async with self.services.parse_turns.of(context.owner):
                parsed = served.parser.parse(body)
        if not parsed.single or parsed.text_bytes > len(body):
            self.services.body_reader.hold(parsed.memory_bytes, context.body_bytes, context.owner)
            context.body_bytes += parsed.memory_bytes
        return parsed

    @abstractmethod
    async def answer(
        self, served: ServedModel, scope: Scope, headers: RequestHeaders, body: bytes, started: float
    ) -> tuple[Response, float]:
        """Answer a request.

        Args:
            served: the model version that the request addresses.
            scope: the request's ASGI scope.
            headers: the request's headers.
            body: the request's body.
            started: arrival of the request (`time.perf_counter()`).

        Returns:
            The response, and the seconds that it took: a response that names its time and the metric agree.

        Raises:
            Problem: if the request is not acceptable.
            RequestError: if the request fails behind the API.
        """


def match_path(path: str) -> tuple[str, Mapping[str, str]]:
    """Return the template that a path matches, and its parameters.

    The resource may be any; the template is empty if the path has another form.
    """
    return _match(path) if len(path) <= PATH_MAX_CHARACTERS else ("", {})


@lru_cache(maxsize=1024)
def _match(path: str) -> tuple[str, Mapping[str, str]]:
    match path.split("/"):
        case ["", resource]:
            return f"/{resource}", {}
        case ["", "models", name, resource] if name:
            return f"/models/{{name}}/{resource}", {"name": name}
        case ["", "models", name, "versions", version, resource] if name and version:
            return f"/models/{{name}}/versions/{{version}}/{resource}", {"name": name, "version": version}
    return "", {}


def reference_of(scope: Scope) -> str | None:
    """Return the version or alias that the path of a request names, if any."""
    reference: str | None = (scope.get("path_params") or {}).get("version")
    return reference


def idempotency_key(headers: RequestHeaders) -> str | None:
    """Return the caller's idempotency key, or None.

    Raises:
        Problem: 422 if the key is empty or too long.
    """
    key = headers.get(b"idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= IDEMPOTENCY_KEY_MAX_CHARACTERS:
        raise Problem(
            422, "invalid_parameter", f"an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_MAX_CHARACTERS} characters"
        )
    return key.decode("latin-1")
