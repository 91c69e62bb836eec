"""A job at the gateway, as its caller sees it."""

import math
import time
from typing import TYPE_CHECKING, Any

from headrace.client.errors import JobFailed, JobUnfinished, ResultExpired

if TYPE_CHECKING:
    from headrace.client.client import Client

PAUSE_SECONDS = 1.0
"""Pause before the next request if the gateway has not waited as it was asked to: it is stopping."""

SHORTEST_WAIT_SECONDS = 0.1
"""Time within which a gateway can't have waited."""

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""The statuses in which a job stays."""


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
        try:
            return str(self._client.job_view(self.id)["status"])
        except ResultExpired as error:
            if error.code != "result_expired":
                raise
            return "succeeded"

    def delete(self) -> None:
        """Cancel the job; if it has ended, make the gateway forget it, its result and its idempotency key.

        Raises:
            NotFound: if the job is unknown, forgotten or aged out.
        """
        self._client.delete_job(self.id)

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the result: `prediction` or `predictions`, and `probabilities` if the model knows them.

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
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            asked = time.monotonic()
            wait = max(0.0, min(self._client.poll_seconds, deadline - asked))
            view = self._client.poll(self.id, wait)
            if view["status"] in ENDED:
                break
            now = time.monotonic()
            if now >= deadline:
                raise JobUnfinished(f"job {self.id} is {view['status']} after {timeout:g} s")
            if now - asked < max(SHORTEST_WAIT_SECONDS, wait / 2):
                time.sleep(min(PAUSE_SECONDS, deadline - now))
        if view["status"] != "succeeded":
            raise JobFailed(self.id, view["status"], view.get("error") or {})
        result: dict[str, Any] = view["result"]
        return result
