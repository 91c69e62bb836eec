"""A job at the gateway, as its caller sees it."""

from typing import TYPE_CHECKING, Any

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
