"""A client of the HTTP API: predictions that the caller waits for, and jobs."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from headrace.client.errors import (
    ClientMisused,
    GatewayUnreachable,
    InvalidRequest,
    problem_error,
)
from headrace.client.job import Job
from headrace.client.rows import body_of

TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 5.0
"""Longest time that one request waits for the outcome of a job, unless the gateway allows less."""

PAGE_JOBS = 500
"""Jobs in one page of a list."""

CONNECTIONS_MAX = 100
"""Connections that a client's threads have at most; more threads wait for one."""

SHORTEST_POLL_SECONDS = 0.1
"""Wait below which a gateway that still finds it too long is not asked to wait at all."""


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
            timeout: seconds without an answer after which a request is given up.
            transport: an httpx transport instead of the usual one, for tests and proxies.

        Raises:
            ClientMisused: if the address is none, or the key can't be one.
        """
        if not re.match(r"https?://[^/]", url):
            raise ClientMisused(f"{url!r} is no address of a gateway: write it as http://127.0.0.1:8000")
        headers = {"Content-Type": "application/json"}
        if key is not None:
            if not re.fullmatch(r"[!-~]+", key):
                raise ClientMisused("the API key has a space, a line break or a character that is not ASCII")
            headers["Authorization"] = f"Bearer {key}"
        try:
            # By default httpx keeps 20 idle connections, and closes others, also one that a thread is about to use.
            limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
            self._http = httpx.Client(
                base_url=url, headers=headers, timeout=timeout, transport=transport, limits=limits
            )
        except httpx.InvalidURL as error:
            raise ClientMisused(f"{url!r} is no address of a gateway: {error}") from None
        self._timeout = timeout
        self.poll_seconds = POLL_SECONDS
        """Longest time for which the gateway is asked to wait for the outcome of a job."""

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

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
            GatewayUnreachable: if it does not answer.
        """
        parameters = {} if deadline is None else {"deadline": str(deadline)}
        # The gateway answers at the deadline; the connection has to outlast it.
        timeout = self._timeout if deadline is None else max(self._timeout, deadline + 1)
        path = _path("predict", model, version)
        return self._request("POST", path, body_of(rows), parameters, timeout=timeout)

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
            GatewayUnreachable: if it does not answer.
        """
        headers = {} if idempotency_key is None else {b"Idempotency-Key": idempotency_key.encode()}
        return Job(self, self._request("POST", _path("jobs", model, version), body_of(rows), headers=headers)["id"])

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
            GatewayUnreachable: if it does not answer.
        """
        accepted_since = since.isoformat() if since is not None else None
        asked = {"status": status, "model": model, "since": accepted_since, "limit": str(PAGE_JOBS)}
        parameters = {name: value for name, value in asked.items() if value is not None}
        while True:
            page = self._request("GET", "/jobs", None, parameters)
            yield from page["jobs"]
            if "next" not in page:
                return
            parameters["cursor"] = page["next"]

    def job_view(self, job_id: str, wait: float = 0.0) -> dict[str, Any]:
        """Return the gateway's view of a job, after waiting at most `wait` seconds for its outcome.

        Raises:
            ResultExpired: if the job succeeded and its result made room for newer ones.
            ProblemError: if the gateway answers with an error.
            GatewayUnreachable: if it does not answer.
        """
        parameters = {"wait": str(wait)} if wait else {}
        return self._request("GET", f"/jobs/{quote(job_id, safe='')}", None, parameters, timeout=self._timeout + wait)

    def delete_job(self, job_id: str) -> None:
        """Cancel a job, or forget one that has ended.

        Raises:
            ProblemError: if the gateway answers with an error.
            GatewayUnreachable: if it does not answer.
        """
        self._request("DELETE", f"/jobs/{quote(job_id, safe='')}", None)

    def poll(self, job_id: str, seconds: float) -> dict[str, Any]:
        """Return the gateway's view of a job, after waiting for its outcome as long as the gateway allows.

        Raises:
            ProblemError: if the gateway answers with an error.
            GatewayUnreachable: if it does not answer.
        """
        while True:
            wait = round(min(self.poll_seconds, seconds), 3)
            try:
                return self.job_view(job_id, wait)
            except InvalidRequest as error:
                refused = [item.get("parameter") for item in error.members.get("errors", [])]
                if "wait" not in refused or not wait:
                    raise
                # The gateway's WAIT_MAX_SECONDS is shorter.
                self.poll_seconds = wait / 2 if wait > SHORTEST_POLL_SECONDS else 0.0

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | None,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[bytes, bytes] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        if self._http.is_closed:
            raise ClientMisused("this client is closed: make a new one")
        try:
            answer = self._http.request(
                method, path, content=content, params=parameters, headers=headers, timeout=timeout or self._timeout
            )
        except httpx.HTTPError as error:
            raise GatewayUnreachable(f"{self._http.base_url}: {type(error).__name__}: {error}") from error
        document = _document(answer)
        if answer.is_success:
            return document
        raise problem_error(answer.status_code, document, _retry_after(answer))


def _path(resource: str, model: str | None, version: str | None) -> str:
    if model is None:
        if version is not None:
            raise ClientMisused("version needs model: versions belong to a model")
        return f"/{resource}"
    base = f"/models/{quote(model, safe='')}"
    return f"{base}/{resource}" if version is None else f"{base}/versions/{quote(version, safe='')}/{resource}"


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(answer: httpx.Response) -> float | None:
    # RFC 9110 also has a date here, which this gateway never sends.
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
