"""Requests of the hot routes, which are answered without a task or an ASGI application of their own.

An endpoint takes a `HotRequest`, puts its rows into a batch, and returns; when the batch is answered, it responds. Most
requests come straight from the connection (`hot_cycle.py`). `AsgiRequest` brings the others: those that are large, that
were sent ahead, or that another server than ours has received.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Generator, Mapping
from contextvars import copy_context
from functools import lru_cache
from typing import Any, Protocol

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope

from gateway.edge.headers import HeaderPairs
from gateway.fairness.bodies import BodyReader
from gateway.web.request_context import RequestContext, context_of

PATH_MAX_CHARACTERS = 512
"""Characters of a path that is remembered: those of hot routes, with names of 64 characters, are shorter."""

Steps = Coroutine[Any, Any, None]
"""A coroutine that answers a request, or prepares the answer."""


class HotHandler(Protocol):
    """An endpoint that answers the requests of a hot route."""

    template: str
    """Path with its parameters unfilled, as metric label."""

    media_types: Collection[bytes]
    """Media types that a body may have; an empty one if none need be declared."""

    async def answer(self, request: "HotRequest") -> None:
        """Respond to a request, or have something else respond when its answer is there."""

    def refuse(self, request: "HotRequest", error: BaseException) -> None:
        """Respond to a request with an error, or have it `crash`."""


class HotRequest(ABC):
    """A request of a hot route, from the end of its head until it is answered or its caller has left."""

    def __init__(
        self,
        handler: HotHandler,
        parameters: Mapping[str, str],
        query: bytes,
        headers: Mapping[bytes, bytes],
        context: RequestContext,
    ) -> None:
        self.handler = handler
        self.parameters = parameters
        """Parameters of the path."""
        self.query = query
        """Query of the URL, encoded."""
        self.headers = headers
        """Headers by name in lower case."""
        self.context = context
        self.started = time.perf_counter()
        self.ended = False
        """True once there is a response, or nobody waits for one."""
        self._variables = copy_context()
        self._at_end: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def read(self, reader: BodyReader) -> bytes:
        """Return the body.

        Raises:
            Problem: if `BodyReader.check` does, or too many bytes are arriving.
            ClientDisconnect: if the caller left.
        """

    @abstractmethod
    def _send(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Send the response."""

    @abstractmethod
    def crash(self, error: Exception) -> None:
        """Respond with 500 to an exception that nobody foresaw, and log it."""

    def at_end(self, action: Callable[[], None]) -> None:
        """Call an action when the request ends; at once if it has ended."""
        if self.ended:
            action()
        else:
            self._at_end.append(action)

    def respond(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Send the response, unless there is one or the caller has left."""
        if not self.ended:
            self._end()
            self._send(status, headers, body)

    def fail(self, error: BaseException) -> None:
        """Respond with an error, unless there is a response or the caller has left."""
        if not self.ended:
            self.handler.refuse(self, error)

    def run(self, steps: Steps) -> None:
        """Take steps until they wait for something, and the rest in a task; an error of theirs is the response.

        Python's own eager tasks need version 3.12. Until the first wait there is no current task, so what needs one
        (a time limit of asyncio's, a command of Redis' client) must come behind `asyncio.sleep(0)`.
        """
        self._variables.run(self._begin, steps)

    def call(self, action: Callable[..., None], *arguments: object) -> None:
        """Take one step that waits for nothing, unless the request has ended; an error of it is the response."""
        if not self.ended:
            self._variables.run(self._call, action, arguments)

    def _call(self, action: Callable[..., None], arguments: tuple[object, ...]) -> None:
        try:
            action(*arguments)
        except Exception as error:
            self.fail(error)

    def _begin(self, steps: Steps) -> None:
        try:
            awaited = steps.send(None)
        except StopIteration:
            return
        except Exception as error:
            self.fail(error)
            return
        self._task = asyncio.get_running_loop().create_task(self._go_on(_Rest(steps, awaited)))

    async def _go_on(self, rest: "_Rest") -> None:
        try:
            await rest
        except (Exception, asyncio.CancelledError) as error:
            self.fail(error)
        finally:
            self._task = None

    def _end(self) -> None:
        self.ended = True
        actions, self._at_end = self._at_end, []
        for action in actions:
            action()


class _Rest:
    """The steps of a coroutine from the first one on that waits."""

    def __init__(self, steps: Steps, awaited: Any) -> None:
        self._steps = steps
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        # A future that failed is not kept: its error's traceback refers to this frame, a cycle for the collector.
        awaited, self._awaited = self._awaited, None
        while True:
            try:
                try:
                    sent = yield awaited
                except BaseException as error:
                    awaited = None
                    awaited = self._steps.throw(error)
                else:
                    awaited = None
                    awaited = self._steps.send(sent)
            except StopIteration:
                return


class AsgiRequest(HotRequest):
    """A request that came through ASGI."""

    def __init__(self, handler: HotHandler, scope: Scope, receive: Receive) -> None:
        parameters = scope.get("path_params") or {}
        super().__init__(handler, parameters, scope["query_string"], dict(scope["headers"]), context_of(scope))
        self._receive = receive
        self._response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.context.on_left = self._leave

    async def answer(self) -> Response:
        """Have the request answered, and return the response.

        Raises:
            ClientDisconnect: if the caller left.
        """
        try:
            await self.handler.answer(self)
            # Not the future itself, which would be cancelled with this task.
            await asyncio.wait([self._response])
        except (Exception, asyncio.CancelledError) as error:
            self.fail(error)
        finally:
            # The callback refers to this request, which refers to the context: a cycle for the garbage collector.
            self.context.on_left = None
        return self._response.result()

    async def read(self, reader: BodyReader) -> bytes:
        """Read the body."""
        return await reader.read(self.headers, self._receive, self.context.owner, self.handler.media_types)

    def _send(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        response = Response(status_code=status)
        response.raw_headers, response.body = list(headers), body
        self._response.set_result(response)

    def crash(self, error: Exception) -> None:
        """Leave the exception to the middleware."""
        self._end()
        self._response.set_exception(error)

    def _leave(self) -> None:
        if not self.ended:
            self.crash(ClientDisconnect())


def match_path(path: str) -> tuple[str, Mapping[str, str]]:
    """Return the template that a path matches, and its parameters.

    The resource may be any; the template is empty if the path has another form.
    """
    return _match(path) if len(path) <= PATH_MAX_CHARACTERS else ("", {})


@lru_cache(maxsize=1024)
def _match(path: str) -> tuple[str, Mapping[str, str]]:
    protocol = path[:3] if path.startswith(("/v1/", "/v2/")) else ""
    rest = path[len(protocol) :]
    if protocol == "/v1":
        # TensorFlow Serving writes `{name}:predict`.
        rest = rest.replace(":", "/:", 1)
    template, parameters = "", {}
    match rest.split("/"):
        case ["", resource]:
            template = f"/{resource}"
        case ["", "models", name, resource] if name:
            template, parameters = f"/models/{{name}}/{resource}", {"name": name}
        case ["", "models", name, "versions", version, resource] if name and version:
            template = f"/models/{{name}}/versions/{{version}}/{resource}"
            parameters = {"name": name, "version": version}
    return template and protocol + template.replace("/:", ":"), parameters
