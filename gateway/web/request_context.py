"""State of one request that the connection, the middleware, the API key check and the endpoint share.

One object under one key of the request's ASGI scope. The protocol makes it; behind another server, as in tests, the
middleware does.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import Scope

from gateway.fairness.answers import PIECE_BYTES, AnswerBudget

if TYPE_CHECKING:
    from gateway.tracing import RequestTrace

CONTEXT = "headrace.context"
"""Key of a request's scope that holds its `RequestContext`."""


@dataclass(slots=True, eq=False)
class RequestContext:
    """State of one request. Each field says who sets it and who reads it."""

    trace: "RequestTrace | None" = None
    """Spans of a sampled request. Set by `Exchanges`, read by the endpoints."""

    owner: str = ""
    """Owner of the API key, empty where no keys are asked for. Set by `Guard.admit`, read by the endpoints."""

    key_scopes: frozenset[str] | None = None
    """Scopes of the API key, None where no keys are asked for. Set by `Guard.admit`, read by `guard.require`."""

    on_left: Callable[[], None] | None = None
    """Called when the connection is lost: the answer need not be computed any more.

    Set by `HotRequest`, called by `HttpProtocol`. ASGI reports a lost connection only through `receive`, and a task
    per request that receives would cost more than it saves.
    """

    prefix: str = ""
    """Path prefix under which the caller sees the gateway. Set by `Exchanges`, read where an answer has a link."""

    problem: str = ""
    """Code of the problem that answers the request. Set where problems become responses, read by `Exchange`."""

    answers: AnswerBudget | None = None
    """Limit of large answers. Set by `Exchanges`, used by `hold_answer`."""

    answer_bytes: int = 0
    """Bytes that the answer counts for there. Set by `hold_answer`, released by `Exchange`."""

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


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request that has passed the middleware."""
    context: RequestContext = scope[CONTEXT]
    return context
