"""Context of log lines: ids that are set once for a request or a batch, and appear in each of its lines."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")

_NOTHING: Mapping[str, Any] = {}
_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=_NOTHING)


def log_context() -> Mapping[str, Any]:
    """Return the fields of a line that is logged now; their values are texts, bytes or lists of texts."""
    return _fields.get()


def bind(**fields: Any) -> None:
    """Add fields for the rest of this asyncio task, or of the `with bound(..)` block around the call."""
    _fields.set({**_fields.get(), **fields})


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add fields inside a `with` block."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def detached(coroutine: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """Start a task without the fields of the request that starts it, since it works for other requests too."""
    return Context().run(asyncio.create_task, coroutine)
