"""The workers that announce themselves, and the broker's clock."""

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
        known = {name.decode(): _read(value) for name, value in announcements.items()}
        now = self._clock.now()
        self._take({name: said for name, said in known.items() if said and now - said.at < LIVE_SECONDS})
        gone = [name for name, said in known.items() if said is None or now - said.at > FORGET_SECONDS]
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
