"""A client of the HTTP API: predictions that the caller waits for, and jobs."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any

import httpx

from headrace.client.answers import document_of
from headrace.client.batches import BATCH_ROWS, CONCURRENCY, Batch, batches_of, check_limits, side_by_side
from headrace.client.calls import Call, Pause, Steps, T
from headrace.client.conversation import RETRIES, TIMEOUT_SECONDS, Conversation
from headrace.client.exchange import RESPONSE_MAX_BYTES, address_of, connection_options, exchange, hide_location
from headrace.client.job import Job, Listing
from headrace.errors import HeadraceError


class Client:
    """A connection to one gateway; close it, or use it as a context manager. Threads may share it."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
        retries: int = RETRIES,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: address of the gateway, such as http://127.0.0.1:8000.
            key: API key, for gateways that ask for one.
            timeout: seconds after which a request is given up that is not answered as a whole, with all its tries.
            transport: an httpx transport instead of the usual one, for tests and proxies.
            retries: further tries of a request that got 429 or 503, or lost its connection before an answer. The pause
                before each is the gateway's `Retry-After`, or random; there is none that ends after `timeout` or
                the deadline. With retries, `submit` sends an idempotency key of its own if the caller gives none.

        Raises:
            ClientMisused: if the address is none, the key can't be one, or `timeout` is no number above 0.
        """
        self._http = httpx.Client(
            **connection_options(url, key),
            timeout=timeout,
            transport=transport,
            event_hooks={"response": [hide_location]},
        )
        self.conversation = Conversation(address_of(self._http.base_url), timeout, retries)
        """Calls of this client, for its jobs."""
        self.response_max_bytes = RESPONSE_MAX_BYTES
        """Most bytes of an answer, for gateways with a larger ANSWER_MAX_BYTES than they are delivered with."""

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """Return all models: the `name` of each, its `aliases`, and `default`, which is true for the default model.

        Raises:
            ProblemError: if the gateway answers with an error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        return self.run(self.conversation.models())

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Return the description of a version: its manifest, `aliases`, and the workers that have it loaded.

        Args:
            name: name of the model.
            version: a version or an alias; by default the alias that the gateway serves.

        Raises:
            NotFound: if the model or version is unknown.
            ProblemError: if the gateway answers with another error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        return self.run(self.conversation.model(name, version))

    def health(self) -> dict[str, Any]:
        """Return the summary of the gateway's state; its `status` is `ok`, or `unavailable` with a `reason`.

        Raises:
            ProblemError: if the gateway answers with an error instead of a summary.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        return self.run(self.conversation.health())

    def predict(
        self,
        rows: Any,
        model: str | None = None,
        version: str | None = None,
        deadline: float | None = None,
        split_key: str | None = None,
        traceparent: str | None = None,
    ) -> dict[str, Any]:
        """Predict one row or several, and wait for the answer.

        Args:
            rows: one row as a mapping, a Series or an array of one dimension; or several as a sequence of them, a data
                frame or a matrix. Arrays and lists have a value for each feature, in the order of the description.
            model: name of the model; by default the gateway's DEFAULT_MODEL.
            version: a version or an alias; by default the alias that the gateway serves. It needs `model`.
            deadline: seconds after which the gateway gives up; by default its own setting.
            split_key: key of a caller; where an alias is split, the same key gets the same version.
            traceparent: W3C trace context of the caller's span, such as 00-<trace id>-<span id>-01.

        Returns:
            The answer: `prediction` for one row or `predictions` for several, `probabilities` if the model knows them,
            `model`, `version` and `timing`.

        Raises:
            UnusableRows: if the rows are something else.
            ClientMisused: if another argument can't be sent, such as a `deadline` that is no number above 0.
            ProblemError: if the gateway answers with an error; its subclasses tell which kind.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        headers = {"split_key": split_key, "traceparent": traceparent}
        return self.run(self.conversation.predict(rows, model, version, deadline, **headers))

    def map(
        self,
        rows: Iterable[Any],
        model: str | None = None,
        version: str | None = None,
        batch_rows: int = BATCH_ROWS,
        concurrency: int = CONCURRENCY,
        on_progress: Callable[[int], None] | None = None,
        ordered: bool = True,
    ) -> Generator[dict[str, Any], None, None]:
        """Return a generator of the predictions of any number of rows, which are never read as a whole.

        Rows are read ahead, and at most `batch_rows * (concurrency + 1)` of them or their predictions are held. A
        generator that is closed before its end sends no further request, and waits for those on their way.

        Args:
            rows: the rows, each as in `predict`: a generator, a matrix, a data frame, anything to iterate over.
            model: as in `predict`.
            version: as in `predict`.
            batch_rows: rows of a request; those of one that is too large for the gateway are sent in parts.
            concurrency: requests that are on their way at a time.
            on_progress: a function that is called with the number of rows predicted so far, after each request.
            ordered: False for the predictions in the order in which they come.

        Returns:
            For each row its `prediction`, its position `row` from 0, `probabilities` if the model knows them, `model`
            and `version`.

        Raises:
            InvalidRequest: if the gateway refuses rows; its `rows` has positions among all rows. In order, those of
                the requests before have been returned, and none after them is.
            ProblemError: and the others, as by `predict`; what the iterable raises comes after the rows before it.
        """
        check_limits(batch_rows, concurrency)
        return self._map(batches_of(rows, batch_rows), model, version, concurrency, on_progress, ordered)

    def _map(
        self,
        batches: Iterator[Batch],
        model: str | None,
        version: str | None,
        concurrency: int,
        on_progress: Callable[[int], None] | None,
        ordered: bool,
    ) -> Generator[dict[str, Any], None, None]:
        def predict(batch: Batch) -> list[dict[str, Any]]:
            return self.run(self.conversation.batch(batch, model, version))

        done = 0
        with closing(side_by_side(batches, predict, concurrency, ordered)) as results:
            for documents in results:
                done += len(documents)
                if on_progress is not None:
                    on_progress(done)
                yield from documents

    def submit(
        self,
        rows: Any,
        model: str | None = None,
        version: str | None = None,
        idempotency_key: str | None = None,
        split_key: str | None = None,
        traceparent: str | None = None,
    ) -> Job:
        """Submit rows as a job, which survives restarts of the service, and return at once.

        Args:
            rows: as in `predict`.
            model: as in `predict`.
            version: as in `predict`.
            idempotency_key: a text of 1 to 255 characters; a second submission with it returns the job of the first.
            split_key: as in `predict`.
            traceparent: as in `predict`.

        Raises:
            UnusableRows: if the rows are something else.
            ProblemError: if the gateway answers with an error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        headers = {"idempotency_key": idempotency_key, "split_key": split_key, "traceparent": traceparent}
        job_id = self.run(self.conversation.submit(rows, model, version, **headers))
        return Job(self, job_id)

    def job(self, job_id: str) -> Job:
        """Return a job that was submitted earlier, by its id; nothing is sent yet."""
        return Job(self, job_id)

    def jobs(
        self, status: str | None = None, model: str | None = None, since: datetime | None = None
    ) -> Iterator[dict[str, Any]]:
        """Return the views of the caller's jobs without results, last one first; pages are fetched as they are needed.

        Args:
            status: only jobs with this status, such as `failed`.
            model: only jobs of this model.
            since: only jobs accepted at this time or later; it needs a time zone.

        Raises:
            ProblemError: if the gateway answers with an error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer, or finds no further job within the client's timeout.
        """
        listing = Listing(self.conversation, status, model, since)
        while page := self.run(listing.page()):
            yield from page

    def run(self, steps: Steps[T]) -> T:
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
                    outcome = self._outcome(step)
                except HeadraceError as error:
                    advance = partial(steps.throw, error)
                else:
                    advance = partial(steps.send, outcome)
        finally:
            # The error holds this frame, which must not hold the error.
            del advance

    def _outcome(self, step: Call | Pause) -> dict[str, Any]:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return {}
        most = self.response_max_bytes
        return document_of(exchange(self._http, step, most), step.form, most)
