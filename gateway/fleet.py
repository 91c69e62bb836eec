"""The workers that announce themselves, and the broker's clock."""

import math
import time

from pydantic import ValidationError
from redis.asyncio import Redis

from shared import keys
from shared.announcement import LIVE_SECONDS, Announcement
from shared.clock import BrokerClock

REFRESH_SECONDS = 0.5
FORGET_SECONDS = 60.0


class Fleet:
    """What is known of the workers; empty while the broker does not answer."""

    def __init__(self, redis: Redis, clock: BrokerClock) -> None:
        self._redis = redis
        self._clock = clock
        self.workers: dict[str, Announcement] = {}
        self.slots = 0

    async def refresh(self) -> None:
        """Read the announcements and the clock.

        Raises:
            RedisError: if the broker does not answer; then nobody is known to be alive.
        """
        try:
            asked = time.monotonic()
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hgetall(keys.WORKERS)
                server_time, announcements = await pipe.execute()
            self._clock.calibrate(server_time, asked, time.monotonic())
        except Exception:
            self._take({})
            raise
        now = self._clock.now()
        live: dict[str, Announcement] = {}
        gone: list[bytes] = []
        for name, value in announcements.items():
            said = _read(value)
            # One from the future is of a time before the broker's clock was set back.
            age_seconds = abs(now - said.at) if said else math.inf
            if said and age_seconds < LIVE_SECONDS:
                live[name.decode(errors="replace")] = said
            elif age_seconds > FORGET_SECONDS:
                gone.append(name)
        self._take(live)
        if gone:
            await self._redis.hdel(keys.WORKERS, *gone)

    def _take(self, workers: dict[str, Announcement]) -> None:
        self.workers = workers
        self.slots = sum(worker.slots for worker in workers.values())


def _read(value: bytes) -> Announcement | None:
    try:
        return Announcement.model_validate_json(value)
    except ValidationError:
        return None
