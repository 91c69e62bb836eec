"""Jobs at the gateway, as their caller sees them: each of them, and the list."""

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headrace.client.calls import Call, Steps, typed
from headrace.client.conversation import Conversation
from headrace.client.errors import GatewayUnreachable, UnusableAnswer
from headrace.client.forms import PAGE_JOBS, JobPage

if TYPE_CHECKING:
    from headrace.client.async_client import AsyncClient
    from headrace.client.client import Client


class Job:
    """A job at the gateway."""

    def __init__(self, client: "Client", job_id: str) -> None:
        self._client = client
        self.id = job_id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> str:
        """Return `queued`, `running`, `succeeded`, `failed`, `cancelled` or `expired`.

        Raises:
            NotFound: if the job is unknown or aged out.
        """
        return self._client.run(self._client.conversation.status(self.id))

    def view(self) -> dict[str, Any]:
        """Return the job as the gateway shows it: its status, model, version and times, its result or its error.

        Raises:
            ResultExpired: if the result made room for newer ones; `members["job"]` is the view without it.
            NotFound: if the job is unknown or aged out.
        """
        return self._client.run(self._client.conversation.view(self.id))

    def delete(self) -> None:
        """Cancel the job; if it has ended, make the gateway forget it, its result and its idempotency key.

        Raises:
            NotFound: if the job is unknown, forgotten or aged out.
        """
        self._client.run(self._client.conversation.delete(self.id))

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the result: `prediction` or `predictions`, `probabilities` if known, `model` and `version`.

        Args:
            timeout: seconds to wait at most; None waits until the job has ended. If the gateway does not answer, the
                client's timeout is added.

        Raises:
            JobUnfinished: if the job has not ended within `timeout`; it is a TimeoutError, too.
            JobFailed: if it ended without a result.
            ResultExpired: if the result made room for newer ones.
            NotFound: if the job is unknown or aged out.
            ProblemError: if the gateway answers with another error.
            GatewayUnreachable: if it does not answer.
        """
        return self._client.run(self._client.conversation.result(self.id, timeout))


class AsyncJob:
    """A job at the gateway, of an `AsyncClient`; results and errors are those of `Job`."""

    def __init__(self, client: "AsyncClient", job_id: str) -> None:
        self._client = client
        self.id = job_id

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def status(self) -> str:
        """Return `queued`, `running`, `succeeded`, `failed`, `cancelled` or `expired`."""
        return await self._client.run(self._client.conversation.status(self.id))

    async def view(self) -> dict[str, Any]:
        """Return the job as the gateway shows it."""
        return await self._client.run(self._client.conversation.view(self.id))

    async def delete(self) -> None:
        """Cancel the job; if it has ended, make the gateway forget it, its result and its idempotency key."""
        await self._client.run(self._client.conversation.delete(self.id))

    async def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the result, `timeout` seconds at most; None waits until the job has ended."""
        return await self._client.run(self._client.conversation.result(self.id, timeout))


class Listing:
    """A list of the caller's jobs, page by page."""

    def __init__(
        self, conversation: Conversation, status: str | None, model: str | None, since: datetime | None
    ) -> None:
        accepted_since = None if since is None else typed("since", since, datetime).isoformat()
        asked = {"status": status, "model": model, "since": accepted_since, "limit": str(PAGE_JOBS)}
        self._parameters = {name: typed(name, value, str) for name, value in asked.items() if value is not None}
        self._conversation = conversation
        self._cursor: str | None = ""
        self._seen: set[str] = set()

    def page(self) -> Steps[list[dict[str, Any]]]:
        """Ask for the next jobs; at the end there are none.

        Raises:
            UnusableAnswer: if the list has no end.
            GatewayUnreachable: if no further job is found within the client's timeout.
        """
        timeout = self._conversation.timeout
        ends = time.monotonic() + timeout
        while self._cursor is not None:
            if self._cursor in self._seen:
                raise UnusableAnswer(200, f"the cursor {self._cursor!r} comes again, so the list has no end")
            if (left := ends - time.monotonic()) <= 0:
                raise GatewayUnreachable(f"{self._conversation.address}: no further job found within {timeout:g} s")
            self._seen.add(self._cursor)
            parameters = self._parameters | ({"cursor": self._cursor} if self._cursor else {})
            page = yield from self._conversation.ask(Call("GET", "/jobs", JobPage, left, parameters))
            self._cursor = page.get("next")
            if page["jobs"]:
                return list(page["jobs"])
        return []
