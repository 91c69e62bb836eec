"""The workers that announce themselves, what their children have loaded, and the broker's clock."""

import math
import time
from collections import defaultdict
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import COMMON_GROUP
from shared.queue.heartbeat import LIVE_SECONDS, ChildHeartbeat, Heartbeat

REFRESH_SECONDS = 0.5
FORGET_SECONDS = 60.0

Said = TypeVar("Said", Heartbeat, ChildHeartbeat)


class Workers:
    """What is known of the workers; empty while the broker does not answer."""

    def __init__(self, redis: Redis, clock: BrokerClock) -> None:
        self._redis = redis
        self._clock = clock
        self.heartbeats: dict[str, Heartbeat] = {}
        self.children: dict[str, list[ChildHeartbeat]] = {}
        self._slots: dict[str, int] = {}

    @property
    def slots(self) -> int:
        """Pool children of all live workers."""
        return sum(worker.slots for worker in self.heartbeats.values())

    def slots_of(self, worker_group: str) -> int:
        """Count the pool children of a group's live workers."""
        return self._slots.get(worker_group, 0)

    def group_for(self, model: str) -> str:
        """Return the worker group that serves a model now: its own while that has live workers, else the common one."""
        return model if self.slots_of(model) else COMMON_GROUP

    @property
    def groups(self) -> list[str]:
        """The worker groups to which batches are sent now, the common one first."""
        return sorted({COMMON_GROUP, *self._slots})

    def loaded_by(self, model: str) -> dict[str, bool]:
        """Worker -> whether all of its children have `<name> <version>` loaded; only workers of the model's pool."""
        return {
            worker: bool(children) and all(model in child.loaded for child in children)
            for worker, children in self._children_for(model).items()
        }

    def holders(self, name: str) -> set[str]:
        """Workers of which a child has any version of a model loaded."""
        prefix = f"{name} "
        return {
            worker
            for worker, children in self._children_for(prefix).items()
            if any(model.startswith(prefix) for child in children for model in child.loaded)
        }

    def refusals(self, model: str) -> set[str]:
        """Why children could not load `<name> <version>`."""
        every = (child for children in self.children.values() for child in children)
        return {child.refused[model] for child in every if model in child.refused}

    def _children_for(self, model: str) -> dict[str, list[ChildHeartbeat]]:
        group = self.group_for(model.partition(" ")[0])
        return {
            worker: self.children.get(worker, [])
            for worker, said in self.heartbeats.items()
            if (group in said.pinned if group else not said.pinned)
        }

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
                pipe.hgetall(keys.CHILDREN)
                server_time, workers, children = await pipe.execute()
            self._clock.calibrate(server_time, asked, time.monotonic())
        except Exception:
            self._take({}, {})
            raise
        self._take(
            await self._live(keys.WORKERS, workers, Heartbeat),
            await self._live(keys.CHILDREN, children, ChildHeartbeat),
        )

    async def _live(self, key: str, announcements: dict[bytes, bytes], form: type[Said]) -> dict[str, Said]:
        """The announcements of now; old ones are swept away."""
        now = self._clock.now()
        live: dict[str, Said] = {}
        gone: list[Any] = []
        for name, value in announcements.items():
            said = _read(value, form)
            # One from the future is of a time before the broker's clock was set back.
            age_seconds = abs(now - said.at) if said else math.inf
            if said and age_seconds < LIVE_SECONDS:
                live[name.decode(errors="replace")] = said
            elif age_seconds > FORGET_SECONDS:
                gone.append(name)
        if gone:
            await self._redis.hdel(key, *gone)
        return live

    def _take(self, workers: dict[str, Heartbeat], children: dict[str, ChildHeartbeat]) -> None:
        self.heartbeats = workers
        slots: dict[str, int] = defaultdict(int)
        for worker in workers.values():
            for pool in worker.pinned or [COMMON_GROUP]:
                slots[pool] += worker.slots
        self._slots = dict(slots)
        by_worker: dict[str, list[ChildHeartbeat]] = defaultdict(list)
        for name, child in children.items():
            by_worker[name.rpartition("/")[0]].append(child)
        self.children = dict(by_worker)


def _read(value: bytes, form: type[BaseModel]) -> Any:
    try:
        return form.model_validate_json(value)
    except ValidationError:
        return None
