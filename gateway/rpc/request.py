"""Inference requests that came as calls of gRPC."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.edge.headers import HeaderPairs
from gateway.errors import DeadlineExceeded
from gateway.fairness.answers import PIECE_BYTES
from gateway.fairness.bodies import BodyReader
from gateway.problems import Problem
from gateway.web.exchange import Exchange
from gateway.web.hot_request import HotHandler, HotRequest
from gateway.web.request_context import RequestContext


class GrpcRequest(HotRequest):
    """A call of gRPC, from its metadata until it is answered or its caller has left."""

    def __init__(
        self,
        handler: HotHandler,
        headers: Mapping[bytes, bytes],
        context: RequestContext,
        exchange: Exchange,
        call: Any,
        receive: Callable[[str], Awaitable[bytes]],
    ) -> None:
        super().__init__(handler, {}, b"", headers, context)
        self._receive = receive
        self._exchange = exchange
        self._grpc = call
        self._outcome: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
        self.deadline_seconds: float | None = call.time_remaining()
        """Time until the caller's deadline; None if there is none."""

    async def answer(self) -> bytes | Problem:
        """Have the request answered, and return the message of the answer, or why there is none.

        Raises:
            CancelledError: if the caller left, or its deadline has passed.
        """
        try:
            await self.handler.answer(self)
            return await self._outcome
        except asyncio.CancelledError:
            self._leave()
            raise
        except Exception as error:
            self.fail(error)
        return await self._outcome

    async def read(self, reader: BodyReader) -> bytes:
        """Return the message, of which gRPC reads as many bytes as a body may have.

        Raises:
            InvalidTensors: if the call has none.
            Problem: if there is no place for the call, or the message does not arrive in time.
        """
        return await self._receive(self.context.owner)

    def refuse(self, problem: Problem) -> None:
        """End the call with a problem, unless there is an answer or the caller has left."""
        if not self.ended:
            self._end()
            self._set(problem)

    def crash(self, error: Exception) -> None:
        """End the call with an exception that nobody foresaw, and log it."""
        problem = self._exchange.failed(error)
        self.context.problem = problem.code
        self.refuse(problem)

    def _send(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        outcome: bytes | Problem = body
        if len(body) > PIECE_BYTES:
            try:
                self.context.hold_answer(len(body))
            except Problem as problem:
                self.context.problem = problem.code
                outcome = problem
        self._set(outcome)

    def _set(self, outcome: bytes | Problem) -> None:
        # A call that was cancelled in this turn of the event loop has cancelled the future.
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if not self.ended and self.deadline_seconds is not None and not self._grpc.time_remaining():
            self.fail(DeadlineExceeded(self.deadline_seconds))
        elif not self.ended:
            self._end()


def headers_of(call: Any) -> dict[bytes, bytes]:
    """Return the metadata of a call as headers; what is in bytes is not for this server.

    Values of one name are joined: of two API keys, a proxy in front may have used the other one, and so none is valid.
    """
    values: dict[bytes, list[bytes]] = {}
    for key, value in call.invocation_metadata() or ():
        if isinstance(value, str):
            values.setdefault(key.encode(), []).append(value.encode("latin-1", "replace"))
    return {name: b", ".join(each) for name, each in values.items()}
