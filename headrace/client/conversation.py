"""Conversations with a gateway, without I/O: which call follows on which answer. Both clients hold them."""

import math
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from headrace.client.answers import documents_of
from headrace.client.batches import Batch
from headrace.client.calls import (
    Call,
    Pause,
    Steps,
    headers_of,
    is_number,
    job_path,
    model_path,
    path_of,
    seconds_of,
    whole,
)
from headrace.client.errors import (
    ClientMisused,
    GatewayUnreachable,
    InvalidRequest,
    JobFailed,
    JobUnfinished,
    RateLimited,
    ResultExpired,
    Unavailable,
    UnusableRows,
    shown,
)
from headrace.client.forms import (
    Description,
    Form,
    Health,
    JobView,
    ModelList,
    Prediction,
    Predictions,
    SubmittedJob,
)
from headrace.client.rows import Rows, rows_of
from headrace.errors import HeadraceError

TIMEOUT_SECONDS = 30.0
RETRIES = 2
"""Tries of a request after the first."""

BACKOFF_SECONDS, BACKOFF_MAX_SECONDS = 0.25, 8.0
"""Bound of the random pause before the second try, which each try doubles, and its limit."""

POLL_SECONDS = 5.0
"""Longest time that one request waits for the outcome of a job, unless the gateway allows less."""

SHORTEST_POLL_SECONDS = 0.1
"""Wait below which a gateway that still finds it too long is not asked to wait at all."""

PAUSE_SECONDS = 1.0
"""Pause before the next request if the gateway has not waited as it was asked to: it is stopping."""

SHORTEST_WAIT_SECONDS = 0.1
"""Time within which a gateway can't have waited."""

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""The statuses in which a job stays."""


class Conversation:
    """The calls of a client, and its knowledge of the gateway."""

    def __init__(self, address: str, timeout: float, retries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        """Address of the gateway for texts of errors: without a password."""
        self.timeout = seconds_of("timeout", timeout)
        """Seconds after which a request is given up, with all its tries."""
        self.retries = whole("retries", retries, 0)
        """Tries after the first."""
        self._clock = clock
        self._names: dict[tuple[str | None, str | None], list[str]] = {}
        self.poll_seconds = POLL_SECONDS
        """Longest time for which the gateway is asked to wait for the outcome of a job."""

    def models(self) -> Steps[list[dict[str, Any]]]:
        """List all models."""
        models: list[dict[str, Any]] = (yield from self._get("/models", ModelList))["models"]
        return models

    def model(self, name: str, version: str | None) -> Steps[dict[str, Any]]:
        """Ask for the description of a version."""
        return (yield from self._get(model_path(name, version), Description))

    def health(self) -> Steps[dict[str, Any]]:
        """Ask for the summary of the gateway's state."""
        return (yield from self._get("/health", Health))

    def predict(
        self,
        rows: Any,
        model: str | None,
        version: str | None,
        deadline: float | None = None,
        **headers: str | None,
    ) -> Steps[dict[str, Any]]:
        """Predict rows; `headers` are arguments of `headers_of`."""
        return (yield from self._predict(rows_of(rows), model, version, deadline, headers_of(**headers)))

    def batch(self, batch: Batch, model: str | None, version: str | None) -> Steps[list[dict[str, Any]]]:
        """Predict a batch, in parts if it is too large; return a document for each row.

        Raises:
            InvalidRequest: if the gateway refuses rows; the error has their positions among all rows.
        """
        first, rows, half = batch.first, batch.rows, len(batch.rows) // 2
        try:
            answer = yield from self._predict(rows_of(rows, first), model, version)
        except InvalidRequest as error:
            if not error.is_too_large or not half:
                raise error.moved(first) from None
        else:
            return documents_of(answer, first, len(rows))
        before = yield from self.batch(Batch(first, rows[:half]), model, version)
        return before + (yield from self.batch(Batch(first + half, rows[half:]), model, version))

    def _predict(
        self,
        rows: Rows,
        model: str | None,
        version: str | None,
        deadline: float | None = None,
        headers: Mapping[bytes, bytes] = MappingProxyType({}),
    ) -> Steps[dict[str, Any]]:
        seconds = self.timeout
        if deadline is not None:
            deadline = seconds_of("deadline", deadline)
            # The gateway answers at the deadline; the connection has to outlast it.
            seconds = max(seconds, deadline + 1)
        form = Prediction if rows.single else Predictions
        call = Call("POST", path_of("predict", model, version), form, seconds, headers=headers, deadline=deadline)
        return (yield from self._ask_with(rows, model, version, call))

    def submit(self, rows: Any, model: str | None, version: str | None, **headers: str | None) -> Steps[str]:
        """Submit rows as a job, and return its id; `headers` are arguments of `headers_of`."""
        if headers.get("idempotency_key") is None and self.retries:
            headers["idempotency_key"] = str(uuid.uuid4())
        path = path_of("jobs", model, version)
        call = Call("POST", path, SubmittedJob, self.timeout, headers=headers_of(**headers))
        return str((yield from self._ask_with(rows_of(rows), model, version, call))["id"])

    def _ask_with(self, rows: Rows, model: str | None, version: str | None, call: Call) -> Steps[dict[str, Any]]:
        """Make a call with rows.

        Lists get the names of the model's features as they were when they were last asked for. Where rows do not fit
        these names, the alias may have moved to a version with others, so that they are asked for again.
        """
        if not rows.need_names:
            return (yield from self.ask(replace(call, content=rows.body())))
        known = self._names.get((model, version))
        if known is not None:
            try:
                return (yield from self.ask(replace(call, content=rows.body(known))))
            except (InvalidRequest, UnusableRows) as error:
                if isinstance(error, InvalidRequest) and error.code != "invalid_rows":
                    raise
                if (yield from self._ask_names(model, version)) == known:
                    raise
        names = self._names.get((model, version)) or (yield from self._ask_names(model, version))
        return (yield from self.ask(replace(call, content=rows.body(names))))

    def _ask_names(self, model: str | None, version: str | None) -> Steps[list[str]]:
        path = "/model-info" if model is None else model_path(model, version)
        description = yield from self._get(path, Description)
        names = [feature["name"] for feature in description["features"]]
        self._names[model, version] = names
        return names

    def status(self, job_id: str) -> Steps[str]:
        """Ask for the status of a job; one whose result made room has succeeded."""
        try:
            return str((yield from self.view(job_id))["status"])
        except ResultExpired as error:
            if error.code != "result_expired":
                raise
            return "succeeded"

    def delete(self, job_id: str) -> Steps[None]:
        """Cancel a job, or forget one that has ended."""
        yield from self.ask(Call("DELETE", job_path(job_id), None, self.timeout, repeatable=False))

    def result(self, job_id: str, timeout: float | None) -> Steps[dict[str, Any]]:
        """Wait for the result of a job; a `timeout` of 0 or less asks once.

        Raises:
            ClientMisused: if `timeout` is no number.
        """
        if timeout is not None and not is_number(timeout):
            raise ClientMisused(shown(f"timeout is a number of seconds or None, and not {timeout!r}"))
        deadline = math.inf if timeout is None else self._clock() + timeout
        while True:
            asked = self._clock()
            wait = max(0.0, min(self.poll_seconds, deadline - asked))
            view = yield from self._poll(job_id, wait)
            if view["status"] in ENDED:
                break
            now = self._clock()
            if now >= deadline:
                raise JobUnfinished(f"job {job_id} is {view['status']} after {timeout:g} s")
            if now - asked < max(SHORTEST_WAIT_SECONDS, wait / 2):
                yield Pause(min(PAUSE_SECONDS, deadline - now))
        if view["status"] != "succeeded":
            raise JobFailed(job_id, view["status"], view.get("error") or {})
        served = {name: view[name] for name in ("model", "version") if view.get(name) is not None}
        return {**view["result"], **served}

    def _poll(self, job_id: str, seconds: float) -> Steps[dict[str, Any]]:
        """Ask for the view of a job, and let the gateway wait for its outcome as long as it allows."""
        ends, left = self._clock() + seconds, seconds
        while True:
            wait = round(min(self.poll_seconds, left), 3)
            try:
                return (yield from self.view(job_id, wait))
            except InvalidRequest as error:
                if not wait or all(mistake.parameter != "wait" for mistake in error.mistakes()):
                    raise
                # The gateway's WAIT_MAX_SECONDS is shorter.
                self.poll_seconds = wait / 2 if wait > SHORTEST_POLL_SECONDS else 0.0
                left = max(0.0, ends - self._clock())

    def view(self, job_id: str, wait: float = 0.0) -> Steps[dict[str, Any]]:
        """Ask for the view of a job, after `wait` seconds at most for its outcome."""
        parameters = {"wait": str(wait)} if wait else {}
        return (yield from self.ask(Call("GET", job_path(job_id), JobView, self.timeout + wait, parameters)))

    def _get(self, path: str, form: type[Form]) -> Steps[dict[str, Any]]:
        return (yield from self.ask(Call("GET", path, form, self.timeout)))

    def ask(self, call: Call) -> Steps[dict[str, Any]]:
        """Make a call, and make it again where that may help and there is time."""
        started, current = self._clock(), call
        for attempt in range(self.retries):
            try:
                return (yield current)
            except HeadraceError as error:
                pause = _pause(error, attempt, call.repeatable)
                if pause is None or self._clock() - started + pause >= call.patience:
                    raise
            yield Pause(pause)
            current = call.later(self._clock() - started)
        return (yield current)


def _pause(error: HeadraceError, attempt: int, repeatable: bool) -> float | None:
    """Return the seconds after which to make a call again; None if that does not help, or does harm."""
    if isinstance(error, RateLimited | Unavailable):
        if error.retry_after:
            return error.retry_after
    elif not isinstance(error, GatewayUnreachable) or (error.sent and not (error.lost and repeatable)):
        return None
    return random.uniform(0, min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2**attempt))
