"""Base of the hot routes: endpoints found by path, which count their requests by model and lane."""

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.responses import EncodedResponse
from gateway.api.statuses import problem_of
from gateway.auth.api_keys import KeyScope
from gateway.catalog.row_parser import ParsedRows
from gateway.catalog.served_model import ServedModel
from gateway.edge.compression import unpacked
from gateway.errors import InvalidRows, NeedsTurn, RequestError
from gateway.fairness.bodies import JSON
from gateway.problems import CONTENT_TYPE, Problem, stopping
from gateway.services import Services
from gateway.web.hot_request import AsgiRequest, HotRequest
from shared.queue.contract import Lane

IDEMPOTENCY_KEY_MAX_CHARACTERS = 255

PARSE_WAIT_SECONDS = 10.0
"""Longest wait of a submission for its turn at being parsed; that of a prediction is its deadline."""


AnyRows = TypeVar("AnyRows", bound=ParsedRows)


_FOREIGN = re.compile(
    rb"\s*(?:\[|\{\s*(?:\"(?:X|columns|data|dataframe_records|dataframe_split|features|input|inputs|rows)\"\s*:\s*[\[{]"
    rb"|\"instances\"\s*:\s*\[\s*[^{\s]|\"signature_name\"\s*:))"
)
"""Beginning of a body as other servers want it; instances of theirs may be no objects."""


class HotEndpoint(ABC):
    """A hot route. FastAPI's typed routes cost more time than the whole way through the queue."""

    lane: Lane
    """Lane of the queue that the rows go to."""

    required_scope: KeyScope
    """Scope that the API key must have."""

    media_types: Collection[bytes] = (JSON,)

    def __init__(self, services: Services, template: str) -> None:
        self.services = services
        self.template = template
        """Path with its parameters unfilled, as metric label."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that came through ASGI."""
        # FastAPI's router sets it too: the middleware reads the metric label from it.
        scope["endpoint"] = self
        response = await AsgiRequest(self, scope, receive).answer()
        await response(scope, receive, send)

    async def answer(self, request: HotRequest) -> None:
        """Answer a request for the model and version in the path, or for the default model; or have its rows answer it.

        Raises:
            Problem: if the request is not acceptable.
            RequestError: if the request fails behind the API.
        """
        self.admit(request)
        served = await self.find(request)
        reader = self.services.body_reader
        body = await request.read(reader)
        self.hold(request, len(body))
        content = await unpacked(request.headers, body, reader.max_bytes)
        if content is not body:
            self.hold(request, len(content), len(body))
        await self.serve(request, served, content)

    def admit(self, request: HotRequest) -> None:
        """Count a request, and admit it if its API key has the scope.

        Raises:
            Problem: if it is not admitted.
        """
        services = self.services
        services.metrics.in_progress[self.lane] += 1
        request.at_end(self._count_off)
        if services.guard.required:
            services.guard.admit(request.context, request.headers, self.required_scope)

    async def find(self, request: HotRequest) -> ServedModel:
        """Return the model version that a request addresses.

        Raises:
            RequestError: if there is none.
        """
        name, reference, headers = self.model_of(request), reference_of(request), request.headers
        split_key = headers[b"x-split-key"].decode("latin-1") if b"x-split-key" in headers else ""
        catalog = self.services.catalog
        found = catalog.served_now(name, reference, split_key)
        return found or await catalog.get(name, reference, request.context.owner)

    def refuse(self, request: HotRequest, error: BaseException) -> None:
        """Answer a request with an error; one that nobody foresaw is logged."""
        if isinstance(error, Problem):
            problem = error
        elif isinstance(error, RequestError):
            problem = problem_of(error)
        elif isinstance(error, asyncio.CancelledError):
            problem = stopping()
        else:
            assert isinstance(error, Exception)
            request.crash(error)
            return
        request.context.problem = problem.code
        self.services.metrics.ended_with(self.model_of(request), self.lane, problem.status, problem.code)
        self.send_problem(request, problem)

    def send_problem(self, request: HotRequest, problem: Problem) -> None:
        """Send the answer with a problem."""
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        body, content_type = self.error_body(problem)
        response = EncodedResponse(body, problem.status, headers, content_type)
        request.respond(response.status_code, response.raw_headers, bytes(response.body))

    def error_body(self, problem: Problem) -> tuple[bytes, bytes]:
        """Return the body of an answer with a problem, and its media type."""
        return problem.body(), CONTENT_TYPE.encode()

    def respond(self, request: HotRequest, response: Response, seconds: float | None = None) -> None:
        """Answer a request with success.

        Args:
            request: the request.
            response: the response.
            seconds: the time that it took; by default until now. A response that names its time and the metric agree.
        """
        if not request.ended:
            if seconds is None:
                seconds = time.perf_counter() - request.started
            self.services.metrics.succeeded(self.model_of(request), self.lane, seconds)
            request.respond(response.status_code, response.raw_headers, bytes(response.body))

    def model_of(self, request: HotRequest) -> str:
        """Return the name of the model that a request addresses."""
        return request.parameters.get("name") or self.services.catalog.default_model

    async def parse(
        self, request: HotRequest, served: ServedModel, body: bytes, wait_seconds: float = PARSE_WAIT_SECONDS
    ) -> ParsedRows:
        """Parse a body, a large one in its turn, for which it waits so many seconds at most.

        Its rows, which may take several times its memory, are counted until the request is answered. Bodies of very
        different sizes take turns too, or one of a few rows would wait for all those of many.

        Raises:
            RequestError: if the body does not hold rows of the model, or its turn does not come.
            Problem: 503 if too many rows are held.
        """
        parse = partial(served.parser.parse, body)
        parse_small = parse if served.parser.is_small(body) else None
        try:
            return await self.parse_in_turn(request, body, parse_small, parse, wait_seconds)
        except InvalidRows as error:
            if not _FOREIGN.match(body):
                raise
            raise form_problem(error, served) from None

    async def parse_in_turn(
        self,
        request: HotRequest,
        body: bytes,
        parse_small: Callable[[], AnyRows] | None,
        parse: Callable[[], AnyRows],
        wait_seconds: float,
    ) -> AnyRows:
        """Return the rows of a body, as the method `parse` does.

        Args:
            request: the request.
            body: its body.
            parse_small: returns the rows of a small body without a turn, unless it raises NeedsTurn.
            parse: returns the rows of any body in its turn.
            wait_seconds: longest wait for the turn.
        """
        parsed = None
        if parse_small is not None:
            with suppress(NeedsTurn):
                parsed = parse_small()
        if parsed is None:
            line = f"{request.context.owner} {len(body).bit_length() // 2}"
            async with self.services.parse_turns.of(line, wait_seconds):
                parsed = parse()
        if not parsed.single or parsed.text_bytes > len(body):
            self.hold(request, parsed.memory_bytes, len(body))
        return parsed

    @abstractmethod
    async def serve(self, request: HotRequest, served: ServedModel, body: bytes) -> None:
        """Answer a request, or have its rows answer it.

        Args:
            request: the request.
            served: the model version that the request addresses.
            body: the request's body.

        Raises:
            Problem: if the request is not acceptable.
            RequestError: if the request fails behind the API.
        """

    def hold(self, request: HotRequest, size: int, held: int = 0) -> None:
        """Count a body or its rows until the request ends.

        Raises:
            Problem: 503 if the limit would be exceeded.
        """
        reader, owner = self.services.body_reader, request.context.owner
        reader.hold(size, held, owner)
        request.at_end(partial(reader.release, size, owner))

    def _count_off(self) -> None:
        self.services.metrics.in_progress[self.lane] -= 1


def form_problem(error: InvalidRows, served: ServedModel) -> Problem:
    """Return the problem of a body in another form, with an example of the right one unless that is long."""
    problem = problem_of(error)
    name = served.manifest.name
    if served.example is None:
        problem.detail += f"; a row is an object with a value of each feature that GET /models/{name} names"
    else:
        problem.detail += "; a body has the form of `example`"
        problem.extra["example"] = served.example
    return problem


def reference_of(request: HotRequest) -> str | None:
    """Return the version or alias that the path of a request names, if any."""
    return request.parameters.get("version")


def idempotency_key(headers: Mapping[bytes, bytes]) -> str | None:
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
