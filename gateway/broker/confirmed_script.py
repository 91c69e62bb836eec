"""Scripts whose writes count only once replicas have them, so that a failover does not lose what was promised."""

from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from shared.queue import keys

REPLICAS_SECONDS = 0.5
"""Longest time to wait for the replicas; part of the time that a command may take."""


class Answer(NamedTuple):
    """The answer of a script."""

    value: Any
    confirmed: bool
    """True if enough replicas have what the script wrote, or found written."""


class ConfirmedScript:
    """A script of Redis, with the number of replicas that must confirm its writes: 0 is a call as any other."""

    def __init__(self, redis: Redis, source: str, replicas: int) -> None:
        self._redis = redis
        self._source = source
        self._script = redis.register_script(source)
        self._replicas = replicas

    async def __call__(self, names: list[str], args: list[Any]) -> Answer:
        """Run the script, and wait for the replicas in the same round trip.

        Raises:
            RedisError: if Redis refuses or does not answer; the script may have run.
        """
        if not self._replicas:
            return Answer(await self._script(keys=names, args=args), True)
        try:
            return await self._pipeline(names, args)
        except NoScriptError:
            # Another master may not have it yet.
            await self._redis.script_load(self._source)
            return await self._pipeline(names, args)

    async def _pipeline(self, names: list[str], args: list[Any]) -> Answer:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(self._script.sha, len(names), *names, *args)
            # WAIT is about the last write of its connection. A script that finds its work done writes nothing, and this
            # comes after what it found.
            pipe.set(keys.REPLICATION_MARK, "", px=1000)
            pipe.execute_command("WAIT", self._replicas, round(1000 * REPLICAS_SECONDS))
            value, _, replicas = await pipe.execute()
        return Answer(value, replicas >= self._replicas)
