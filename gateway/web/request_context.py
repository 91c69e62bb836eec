"""State of one request that the connection, the middleware, the API key check and the endpoint share.

One object under one key of the request's ASGI scope. The protocol makes it; behind another server, as in tests, the
middleware does.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.types import Scope

from gateway.web.answers import PIECE_BYTES, AnswerBudget

if TYPE_CHECKING:
    from gateway.tracing import RequestTrace

CONTEXT = "headrace.context"
"""Key of a request's scope that holds its `RequestContext`."""

HeaderPairs = Iterable[tuple[bytes, bytes]]
"""Response headers, names in lower case. They are written as they are, so a caller's input must be checked first."""

WriteResponse = Callable[[int, HeaderPairs, bytes], bool]
"""Sends status, headers and body in one write; False, with nothing sent, if the response must go through ASGI."""


@dataclass(slots=True, eq=False)
class RequestContext:
    """State of one request. Each field says who sets it and who reads it."""

    write_response: WriteResponse | None = None
    """Sends a complete response in one write; None if the server can't.

    Set by `HttpProtocol`; wrapped, and removed after the response, by `RequestMiddleware`; called by `EncodedResponse`.
    """

    trace: "RequestTrace | None" = None
    """Spans of a sampled request. Set by `RequestMiddleware`, read by the endpoints."""

    owner: str = ""
    """Owner of the API key, empty where no keys are asked for. Set by `Guard.admit`, read by the endpoints."""

    key_scopes: frozenset[str] | None = None
    """Scopes of the API key, None where no keys are asked for. Set by `Guard.admit`, read by `guard.require`."""

    awaited: "asyncio.Future[Any] | None" = None
    """Answer that the caller of `/predict` waits for.

    Set by the batcher through `wait_for`, failed by `HttpProtocol` when the connection is lost. ASGI reports a
    lost connection only through `receive`, and a task per request that receives would cost more than it saves.
    """

    problem: str = ""
    """Code of the problem that answers the request. Set where problems become responses, read by the middleware."""

    body_bytes: int = 0
    """Bytes that the body and its rows count for. Set and released by `HotEndpoint`."""

    answers: AnswerBudget | None = None
    """Limit of large answers. Set by `RequestMiddleware`, used by `hold_answer`."""

    answer_bytes: int = 0
    """Bytes that the answer counts for there. Set by `hold_answer`, released by `RequestMiddleware`."""

    def wait_for(self, answer: "asyncio.Future[Any]") -> None:
        """Note the answer that the caller waits for."""
        self.awaited = answer

    def hold_answer(self, size: int) -> None:
        """Count the answer, if it is large, as one of this size at least until the request has ended.

        Raises:
            Problem: 503 if too many large answers are being made or sent.
        """
        if self.answers is not None and size > max(self.answer_bytes, PIECE_BYTES):
            self.answers.hold(size, self.answer_bytes, self.owner)
            self.answer_bytes = size

    def turn_to_write(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which to write the answer: those that count are written in turns of their owners."""
        return self.answers.turn_of(self.owner) if self.answers is not None and self.answer_bytes else nullcontext()

    def caller_left(self) -> None:
        """Fail the awaited answer with `ClientDisconnect`: it need not be computed any more."""
        if self.awaited is not None and not self.awaited.done():
            self.awaited.set_exception(ClientDisconnect())


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request that has passed the middleware."""
    context: RequestContext = scope[CONTEXT]
    return context
