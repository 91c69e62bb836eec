"""Callers who leave while they wait: what they wait for need not be done any more.

ASGI tells of it only whoever receives, and a task that receives beside each request would cost more than it saves. So
what a caller waits for is left in its request's scope, where the protocol finds it when the connection is lost.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect

AWAITED = "headrace.awaited"
"""Key of a request's scope: the future that its caller waits for."""


def left(scope: Mapping[str, Any]) -> None:
    """The caller of a request has left; who waits on its behalf gets ClientDisconnect."""
    awaited: asyncio.Future[Any] | None = scope.get(AWAITED)
    if awaited is not None and not awaited.done():
        awaited.set_exception(ClientDisconnect())
