"""Loops that run as long as the gateway and survive every fault of the broker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
CANCEL_AGAIN_SECONDS = 0.2


class BackgroundLoops:
    """Tasks that repeat a step each; a failing step is repeated after a pause and logged once per outage."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat `step`, which does its own waiting, until `stop`."""
        self._tasks.add(asyncio.create_task(_repeat(name, step), name=name))

    async def stop(self) -> None:
        """Cancel all loops and wait until they have ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # A cancellation that meets a time-out inside the Redis client can be lost: cancel again until all end.
            _, self._tasks = await asyncio.wait(self._tasks, timeout=CANCEL_AGAIN_SECONDS)


async def _repeat(name: str, step: Callable[[], Awaitable[None]]) -> None:
    pause_seconds = 0.0
    while True:
        try:
            await step()
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            if not pause_seconds:
                logger.warning("%s: broker: %s", name, type(error).__name__)
            pause_seconds = min(LONGEST_PAUSE_SECONDS, 2 * pause_seconds or FIRST_PAUSE_SECONDS)
        except Exception:
            logger.exception("%s failed, and goes on", name)
            pause_seconds = LONGEST_PAUSE_SECONDS
        else:
            if pause_seconds:
                logger.info("%s: works again", name)
            pause_seconds = 0.0
        if pause_seconds:
            await asyncio.sleep(pause_seconds)
