"""Calls of the HTTP API: the request of each, and the form of its answer."""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from numbers import Integral, Real
from typing import Any, TypeVar
from urllib.parse import quote

from headrace.client.errors import ClientMisused, shown
from headrace.client.forms import Form

T = TypeVar("T")

SECONDS_MAX = 1_000_000
"""Longest time that a call may have."""


@dataclass(frozen=True)
class Call:
    """A request, and the form of the document that answers it."""

    method: str
    path: str
    form: type[Form] | None
    """Form of the document; None if no document is wanted."""
    seconds: float
    """Time for the whole request and its answer."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    content: bytes | None = None
    deadline: float | None = None
    """Seconds until the answer is worthless, of a prediction."""
    repeatable: bool = True
    """False if a second such request means something else than the first."""

    @property
    def query(self) -> dict[str, str]:
        """All parameters of the query."""
        return {**self.parameters} if self.deadline is None else {**self.parameters, "deadline": str(self.deadline)}

    @property
    def patience(self) -> float:
        """Seconds after which no further try makes sense."""
        return self.seconds if self.deadline is None else min(self.seconds, self.deadline)

    def later(self, passed: float) -> "Call":
        """Return the call with the time that is left after so many seconds."""
        deadline = None if self.deadline is None else max(0.001, round(self.deadline - passed, 3))
        return replace(self, seconds=max(0.0, self.seconds - passed), deadline=deadline)


@dataclass(frozen=True)
class Pause:
    """A time between two calls, in seconds."""

    seconds: float


Steps = Generator[Call | Pause, dict[str, Any], T]
"""Steps towards a result: the caller makes each call and pause, and sends or throws in how it ended."""


_WORDS: dict[type, str] = {str: "a text", datetime: "a datetime", Integral: "a whole number"}


def typed(argument: str, value: Any, kind: type) -> Any:
    """Return the value of an argument that has a type; a boolean is no number.

    Raises:
        ClientMisused: if it is of another type. The text does not show the value, which may be a key.
    """
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise ClientMisused(f"{argument} is {_WORDS[kind]}, and not of type {type(value).__name__}")


def whole(argument: str, value: Any, least: int) -> int:
    """Return the value of an argument that is a whole number.

    Raises:
        ClientMisused: if it is none, or too small.
    """
    number = int(typed(argument, value, Integral))
    if number < least:
        raise ClientMisused(f"{argument} is {least} at least, and not {number}")
    return number


def is_number(value: Any) -> bool:
    """Tell whether a value is a real number, which NaN and booleans are not."""
    return not isinstance(value, bool) and isinstance(value, Real) and bool(value <= math.inf)


def seconds_of(argument: str, value: Any) -> float:
    """Return the value of an argument for a time that a call may have, in seconds.

    Raises:
        ClientMisused: if it is no number, not above 0 or above `SECONDS_MAX`.
    """
    if is_number(value) and 0 < value <= SECONDS_MAX:
        return float(value)
    raise ClientMisused(shown(f"{argument} is a number of seconds above 0, at most {SECONDS_MAX:,}, and not {value!r}"))


def headers_of(**values: str | None) -> dict[bytes, bytes]:
    """Return the headers for arguments, such as `split_key` for `X-Split-Key`; None means no header.

    Raises:
        ClientMisused: if a value can't be a header's.
    """
    headers = {}
    for argument, value in values.items():
        if value is None:
            continue
        typed(argument, value, str)
        if not value.isprintable() or value != value.strip():
            raise ClientMisused(f"{argument} has a control character, or begins or ends with a space")
        headers[_HEADERS[argument]] = value.encode()
    return headers


_HEADERS = {"idempotency_key": b"Idempotency-Key", "split_key": b"X-Split-Key", "traceparent": b"traceparent"}


def path_of(resource: str, model: str | None, version: str | None) -> str:
    """Return the path of a resource of a model or version, or of the default model.

    Raises:
        ClientMisused: if there is a version without a model, or a name that would change the path.
    """
    if model is None:
        if version is not None:
            raise ClientMisused("version needs model: versions belong to a model")
        return f"/{resource}"
    return f"{model_path(model, version)}/{resource}"


def model_path(name: str, version: str | None) -> str:
    """Return the path of a model or version.

    Raises:
        ClientMisused: if a name would change the path.
    """
    base = f"/models/{_segment(name)}"
    return base if version is None else f"{base}/versions/{_segment(version)}"


def job_path(job_id: str) -> str:
    """Return the path of a job.

    Raises:
        ClientMisused: if the id would change the path.
    """
    return f"/jobs/{_segment(job_id)}"


def _segment(name: str) -> str:
    """Return a name as one segment of a path.

    Raises:
        ClientMisused: if it would change the path.
    """
    if not isinstance(name, str) or name in ("", ".", ".."):
        raise ClientMisused(shown(f"{name!r} is no name of a model or version, and no id of a job"))
    return quote(name, safe="")
