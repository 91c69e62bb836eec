"""Damaged data that the job scripts have put aside: named in the log, and made dead letters."""

import logging
from typing import Any

from redis.asyncio import Redis

from shared.queue import keys
from shared.queue.dead_letters import DeadLetter, kept_after

logger = logging.getLogger(__name__)

BURIED_TOGETHER = 100
"""Values that one call makes dead letters of, at most."""


async def bury_damaged(redis: Redis, now: float) -> None:
    """Make dead letters of the values in `keys.JOBS_DAMAGED`, the oldest first.

    Args:
        redis: The broker.
        now: The broker's time, in seconds.

    Raises:
        RedisError: if Redis does not answer, or is full; what was not buried stays.
    """
    for _ in range(BURIED_TOGETHER):
        found: Any = await redis.lindex(keys.JOBS_DAMAGED, -1)
        if found is None:
            return
        reason, _, content = found.partition(b"\n")
        # Escaped, because the key may be any bytes.
        letter = DeadLetter.of(content, "", reason.decode("ascii", "backslashreplace"), now)
        text = letter.model_dump_json()
        await redis.lpush(keys.DEAD_LETTERS, text)
        await redis.ltrim(keys.DEAD_LETTERS, 0, kept_after(text) - 1)
        await redis.rpop(keys.JOBS_DAMAGED)
        logger.error("dead letter %s: damaged data: %s", letter.id, letter.reason)
