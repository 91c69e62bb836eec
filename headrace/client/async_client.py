"""A client of the HTTP API for event loops: `Client` with coroutines."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any

import httpx

from headrace.client.answers import document_of
from headrace.client.batches import BATCH_ROWS, CONCURRENCY, Batch, async_batches_of, async_side_by_side, check_limits
from headrace.client.calls import Call, Pause, Steps, T
from headrace.client.conversation import RETRIES, TIMEOUT_SECONDS, Conversation
from headrace.client.exchange import (
    CONNECTIONS_MAX,
    RESPONSE_MAX_BYTES,
    address_of,
    connection_options,
    exchange_async,
    hide_location,
)
from headrace.client.job import AsyncJob, Listing
from headrace.errors import HeadraceError


class AsyncClient:
    """A connection to one gateway for the tasks of an asyncio event loop; close it, or use it with `async with`.

    Arguments, results and errors are those of `Client`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        retries: int = RETRIES,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Raises:
            ClientMisused: if the address is none, or the key can't be one.
        """
        self._http = httpx.AsyncClient(
            **connection_options(url, key),
            timeout=timeout,
            transport=transport,
            event_hooks={"response": [_hide_location]},
        )
        self.conversation = Conversation(address_of(self._http.base_url), timeout, retries)
        """Calls of this client, for its jobs."""
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self.response_max_bytes = RESPONSE_MAX_BYTES
        """Most bytes of an answer."""

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def models(self) -> list[dict[str, Any]]:
        """Return all models."""
        return await self.run(self.conversation.models())

    async def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Return the description of a version."""
        return await self.run(self.conversation.model(name, version))

    async def health(self) -> dict[str, Any]:
        """Return the summary of the gateway's state."""
        return await self.run(self.conversation.health())

    async def predict(
        self,
        rows: Any,
        model: str | None = None,
        version: str | None = None,
        deadline: float | None = None,
        split_key: str | None = None,
        traceparent: str | None = None,
    ) -> dict[str, Any]:
        """Predict one row or several, and wait for the answer."""
        headers = {"split_key": split_key, "traceparent": traceparent}
        return await self.run(self.conversation.predict(rows, model, version, deadline, **headers))

    def map(
        self,
        rows: Iterable[Any] | AsyncIterable[Any],
        model: str | None = None,
        version: str | None = None,
        batch_rows: int = BATCH_ROWS,
        concurrency: int = CONCURRENCY,
        on_progress: Callable[[int], None] | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Return an asynchronous generator of the predictions of any number of rows; `aclose` cancels its requests."""
        check_limits(batch_rows, concurrency)
        return self._map(async_batches_of(rows, batch_rows), model, version, concurrency, on_progress, ordered)

    async def _map(
        self,
        batches: AsyncGenerator[Batch, None],
        model: str | None,
        version: str | None,
        concurrency: int,
        on_progress: Callable[[int], None] | None,
        ordered: bool,
    ) -> AsyncGenerator[dict[str, Any], None]:
        def predict(batch: Batch) -> Coroutine[Any, Any, list[dict[str, Any]]]:
            return self.run(self.conversation.batch(batch, model, version))

        done = 0
        async with aclosing(batches), aclosing(async_side_by_side(batches, predict, concurrency, ordered)) as results:
            async for documents in results:
                done += len(documents)
                if on_progress is not None:
                    on_progress(done)
                for document in documents:
                    yield document

    async def submit(
        self,
        rows: Any,
        model: str | None = None,
        version: str | None = None,
        idempotency_key: str | None = None,
        split_key: str | None = None,
        traceparent: str | None = None,
    ) -> AsyncJob:
        """Submit rows as a job, which survives restarts of the service."""
        headers = {"idempotency_key": idempotency_key, "split_key": split_key, "traceparent": traceparent}
        job_id = await self.run(self.conversation.submit(rows, model, version, **headers))
        return AsyncJob(self, job_id)

    def job(self, job_id: str) -> AsyncJob:
        """Return a job that was submitted earlier, by its id; nothing is sent yet."""
        return AsyncJob(self, job_id)

    async def jobs(
        self, status: str | None = None, model: str | None = None, since: datetime | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the views of the caller's jobs without results, last one first; pages are fetched when needed."""
        listing = Listing(self.conversation, status, model, since)
        while page := await self.run(listing.page()):
            for view in page:
                yield view

    async def run(self, steps: Steps[T]) -> T:
        """Make the calls and pauses of a conversation, and return its result."""
        advance: Callable[[], Call | Pause] = partial(next, steps)
        try:
            while True:
                try:
                    step = advance()
                except StopIteration as end:
                    result: T = end.value
                    return result
                try:
                    outcome = await self._outcome(step)
                except HeadraceError as error:
                    advance = partial(steps.throw, error)
                else:
                    advance = partial(steps.send, outcome)
        finally:
            # The error holds this frame, which must not hold the error.
            del advance

    async def _outcome(self, step: Call | Pause) -> dict[str, Any]:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return {}
        most = self.response_max_bytes
        return document_of(await exchange_async(self._http, step, most, self._turns), step.form, most)


async def _hide_location(answer: httpx.Response) -> None:
    hide_location(answer)
