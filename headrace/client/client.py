"""A client of the HTTP API: predictions that the caller waits for, and jobs."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from http.cookiejar import CookieJar
from types import TracebackType
from typing import Any

import httpx

from headrace.client.answers import document_of
from headrace.client.errors import ClientMisused, GatewayUnreachable, InvalidRequest, UnusableAnswer
from headrace.client.exchange import RESPONSE_MAX_BYTES, address_of, exchange, hide_location
from headrace.client.forms import (
    PAGE_JOBS,
    Description,
    Form,
    Health,
    JobPage,
    JobView,
    ModelList,
    Prediction,
    Predictions,
    SubmittedJob,
)
from headrace.client.job import Job
from headrace.client.paths import model_path, path_of, segment
from headrace.client.rows import body_of, is_row

TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 5.0
"""Longest time that one request waits for the outcome of a job, unless the gateway allows less."""

CONNECTIONS_MAX = 100
"""Connections that a client's threads have at most; more threads wait for one."""

SHORTEST_POLL_SECONDS = 0.1
"""Wait below which a gateway that still finds it too long is not asked to wait at all."""


class _NoCookies(CookieJar):
    """A jar that stays empty: the API has no cookies, and a server could send new ones with each answer."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Take none."""


class Client:
    """A connection to one gateway; close it, or use it as a context manager. Threads may share it."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: address of the gateway, such as http://127.0.0.1:8000.
            key: API key, for gateways that ask for one.
            timeout: seconds after which a request is given up that is not answered as a whole.
            transport: an httpx transport instead of the usual one, for tests and proxies.

        Raises:
            ClientMisused: if the address is none, or the key can't be one.
        """
        if not re.match(r"https?://[^/]", url):
            raise ClientMisused(f"{url!r} is no address of a gateway: write it as http://127.0.0.1:8000")
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
        if key is not None:
            if not re.fullmatch(r"[!-~]+", key):
                raise ClientMisused("the API key has a space, a line break or a character that is not ASCII")
            headers["Authorization"] = f"Bearer {key}"
        try:
            # By default httpx keeps 20 idle connections, and closes others, also one that a thread is about to use.
            limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
            self._http = httpx.Client(
                base_url=url,
                headers=headers,
                timeout=timeout,
                transport=transport,
                limits=limits,
                cookies=_NoCookies(),
                event_hooks={"response": [hide_location]},
            )
        except httpx.InvalidURL as error:
            raise ClientMisused(f"{url!r} is no address of a gateway: {error}") from None
        self._timeout = timeout
        self.poll_seconds = POLL_SECONDS
        """Longest time for which the gateway is asked to wait for the outcome of a job."""
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
        models: list[dict[str, Any]] = self._request("GET", "/models", ModelList)["models"]
        return models

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
        return self._request("GET", model_path(name, version), Description)

    def health(self) -> dict[str, Any]:
        """Return the summary of the gateway's state; its `status` is `ok`, or `unavailable` with a `reason`.

        Raises:
            ProblemError: if the gateway answers with an error instead of a summary.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        return self._request("GET", "/health", Health)

    def predict(
        self,
        rows: Any,
        model: str | None = None,
        version: str | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Predict one row or several, and wait for the answer.

        Args:
            rows: one row as a mapping or a Series, or several as a sequence of them or a data frame.
            model: name of the model; by default the gateway's DEFAULT_MODEL.
            version: a version or an alias; by default the alias that the gateway serves. It needs `model`.
            deadline: seconds after which the gateway gives up; by default its own setting.

        Returns:
            The answer: `prediction` for one row or `predictions` for several, `probabilities` if the model knows them,
            `model`, `version` and `timing`.

        Raises:
            UnusableRows: if the rows are something else.
            ProblemError: if the gateway answers with an error; its subclasses tell which kind.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        parameters = {} if deadline is None else {"deadline": str(deadline)}
        # The gateway answers at the deadline; the connection has to outlast it.
        timeout = self._timeout if deadline is None else max(self._timeout, deadline + 1)
        form = Prediction if is_row(rows) else Predictions
        path = path_of("predict", model, version)
        return self._request("POST", path, form, timeout, content=body_of(rows), params=parameters)

    def submit(
        self,
        rows: Any,
        model: str | None = None,
        version: str | None = None,
        idempotency_key: str | None = None,
    ) -> "Job":
        """Submit rows as a job, which survives restarts of the service, and return at once.

        Args:
            rows: as in `predict`.
            model: as in `predict`.
            version: as in `predict`.
            idempotency_key: a text of 1 to 255 characters; a second submission with it returns the job of the first.

        Raises:
            UnusableRows: if the rows are something else.
            ProblemError: if the gateway answers with an error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        headers = {} if idempotency_key is None else {b"Idempotency-Key": idempotency_key.encode()}
        path = path_of("jobs", model, version)
        return Job(self, self._request("POST", path, SubmittedJob, content=body_of(rows), headers=headers)["id"])

    def job(self, job_id: str) -> "Job":
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
        accepted_since = since.isoformat() if since is not None else None
        asked = {"status": status, "model": model, "since": accepted_since, "limit": str(PAGE_JOBS)}
        parameters = {name: value for name, value in asked.items() if value is not None}
        cursors: set[str] = set()
        ends = time.monotonic() + self._timeout
        while True:
            page = self._request("GET", "/jobs", JobPage, ends - time.monotonic(), params=parameters)
            if page["jobs"]:
                yield from page["jobs"]
                ends = time.monotonic() + self._timeout
            cursor = page.get("next")
            if cursor is None:
                return
            if cursor in cursors:
                raise UnusableAnswer(200, f"the cursor {cursor!r} comes again, so the list has no end")
            if time.monotonic() >= ends:
                raise GatewayUnreachable(f"{address_of(self._http)}: no further job found within {self._timeout:g} s")
            cursors.add(cursor)
            parameters["cursor"] = cursor

    def job_view(self, job_id: str, wait: float = 0.0) -> dict[str, Any]:
        """Return the gateway's view of a job, after waiting at most `wait` seconds for its outcome.

        Raises:
            ResultExpired: if the job succeeded and its result made room for newer ones.
            ProblemError: if the gateway answers with an error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        parameters = {"wait": str(wait)} if wait else {}
        return self._request("GET", f"/jobs/{segment(job_id)}", JobView, self._timeout + wait, params=parameters)

    def delete_job(self, job_id: str) -> None:
        """Cancel a job, or forget one that has ended.

        Raises:
            ProblemError: if the gateway answers with an error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        self._request("DELETE", f"/jobs/{segment(job_id)}", None)

    def poll(self, job_id: str, seconds: float) -> dict[str, Any]:
        """Return the gateway's view of a job, after waiting for its outcome as long as the gateway allows.

        Raises:
            ProblemError: if the gateway answers with an error.
            UnusableAnswer: if the answer is not a gateway's.
            GatewayUnreachable: if it does not answer.
        """
        ends, left = time.monotonic() + seconds, seconds
        while True:
            wait = round(min(self.poll_seconds, left), 3)
            try:
                return self.job_view(job_id, wait)
            except InvalidRequest as error:
                if not wait or all(mistake.parameter != "wait" for mistake in error.mistakes()):
                    raise
                # The gateway's WAIT_MAX_SECONDS is shorter.
                self.poll_seconds = wait / 2 if wait > SHORTEST_POLL_SECONDS else 0.0
                left = max(0.0, ends - time.monotonic())

    def _request(
        self, method: str, path: str, form: type[Form] | None, timeout: float | None = None, **parts: Any
    ) -> dict[str, Any]:
        if self._http.is_closed:
            raise ClientMisused("this client is closed: make a new one")
        most = self.response_max_bytes
        answer = exchange(self._http, method, path, timeout or self._timeout, most, **parts)
        return document_of(answer, form, most)
