"""What a log line is about: ids that whoever handles a request or a batch sets once, for every line until its end."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")

_NOTHING: Mapping[str, Any] = {}
_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=_NOTHING)


def log_context() -> Mapping[str, Any]:
    """The fields that a line has now; their values are texts, bytes or lists of texts."""
    return _fields.get()


def bind(**fields: Any) -> None:
    """Add fields for the rest of this asyncio task, or of what `bound` surrounds."""
    _fields.set({**_fields.get(), **fields})


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Have these fields in addition, then what was before."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def detached(coroutine: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """A task for more than the request that happens to start it, so without its fields."""
    return Context().run(asyncio.create_task, coroutine)
