"""Fakes of the broker and of the workers."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import pytest
import redis.asyncio
from fakeredis import FakeAsyncRedis, FakeServer

from gateway.batching.batcher import Batcher
from gateway.batching.calls import Answer
from gateway.batching.slots import WorkerGroups
from gateway.broker.batch_client import BatchClient
from gateway.broker.celery_message import NOT_TRACED, Traces
from gateway.broker.workers import Workers
from gateway.errors import RequestError
from shared.queue.contract import COMMON_GROUP, BatchReply, Message, PredictMessage, Row

Failure = TypeVar("Failure", bound=RequestError)


async def error_of(answer: Awaitable[Any], expected: type[Failure]) -> Failure:
    """Return the error that an answer ends with, which must be of the expected type."""
    with pytest.raises(expected) as caught:
        await answer
    return caught.value


async def predicted(batcher: Batcher, rows: list[Row], deadline_seconds: float, **options: Any) -> Answer:
    """Have rows predicted, and wait for the answer; when the wait is cancelled, the caller has left."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def on_end(outcome: Answer | Exception) -> None:
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    call = batcher.enqueue(rows, deadline_seconds, on_end, **options)
    try:
        return await answer
    finally:
        batcher.drop(call)


@asynccontextmanager
async def connected(server: FakeServer) -> AsyncIterator[redis.asyncio.Redis]:
    """Connect to a Redis in memory."""
    client = FakeAsyncRedis(server=server)
    try:
        yield client
    finally:
        server.connected = True
        await client.aclose()


class FakeWorkers(Workers):
    """Workers without heartbeats: a test sets the slots of each worker group."""

    def __init__(self, common: int = 1, **pinned: int) -> None:
        nobody = cast(Any, None)
        super().__init__(nobody, nobody)
        self.known = True
        self.common = common
        self.pinned = pinned

    def slots_of(self, worker_group: str) -> int:
        """Return the number that the test has set, or 0."""
        return self.common if worker_group == COMMON_GROUP else self.pinned.get(worker_group, 0)


def common(slots: int = 1) -> WorkerGroups:
    """Return the worker groups of workers that serve every model, with this many slots together."""
    return WorkerGroups(FakeWorkers(slots))


def rows_of(message: PredictMessage) -> list[Row]:
    """Return the rows of a message, also if they are packed; each packed row has one value, as in the tests."""
    if isinstance(message.rows, str):
        return [[value] for (value,) in struct.iter_unpack("<d", base64.b64decode(message.rows))]
    return message.rows


class FakeBatchClient(BatchClient):
    """A queue without a broker: it keeps the published messages, and a test answers them."""

    def __init__(self) -> None:
        nobody = cast(Any, None)
        super().__init__(nobody, nobody, nobody, nobody, nobody)
        self.published: list[PredictMessage] = []
        self.worker_groups: list[str] = []
        """The worker group of each message."""
        self.traces: list[Traces] = []
        self.failure: Exception | None = None

    async def publish(self, message: Message, worker_group: str, traces: Traces = NOT_TRACED) -> None:
        """Keep a message, or fail as the broker would."""
        assert isinstance(message, PredictMessage)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.published.append(message)
        self.worker_groups.append(worker_group)
        self.traces.append(traces)

    def answer(
        self,
        message: PredictMessage,
        results: Sequence[dict[str, Any]] | None = None,
        compute_seconds: float = 0.0,
        started_at: float = 5.0,
    ) -> None:
        """Deliver a reply, by default the first value of each row as its prediction."""
        if results is None:
            rows = iter(rows_of(message))
            results = [
                {"predictions": [next(rows)[0] for _ in range(call.n_rows)], "probabilities": None}
                for call in message.calls
            ]
        reply = BatchReply(
            batch=message.batch, started_at=started_at, compute_seconds=compute_seconds, results=list(results)
        )
        self._deliver(reply.to_json().encode())
