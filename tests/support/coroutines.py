"""Running coroutines in tests: with a time limit, and with nothing left running afterwards."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from tests.support.processes import PATIENCE_SECONDS

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result], seconds: float = PATIENCE_SECONDS) -> Result:
    """Run a coroutine in an event loop of its own and return its result.

    Raises:
        AssertionError: If it leaves a task behind; closing the loop would hide that by cancelling the task.
    """

    async def bounded() -> Result:
        result = await asyncio.wait_for(coroutine, seconds)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"
        return result

    return asyncio.run(bounded())


async def turns(count: int = 10) -> None:
    """Run everything that is ready, and what that makes ready, without letting a timer's time pass."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(what: str, probe: Callable[[], object | Awaitable[object]], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `probe`, which may be a coroutine function, returns something true, and return that.

    Raises:
        AssertionError: If it never does.
    """
    end = time.monotonic() + seconds
    while True:
        found = probe()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.001)
