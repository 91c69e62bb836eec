"""The live workers, the versions that their pool children have loaded, and the broker's clock."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from shared.observability.log_limit import LogLimit
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import COMMON_GROUP
from shared.queue.heartbeat import HEARTBEAT_MAX_BYTES, LIVE_SECONDS, ChildHeartbeat, Heartbeat

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5

FORGET_SECONDS = 60.0
"""Age from which a heartbeat is deleted from Redis."""

Beat = TypeVar("Beat", Heartbeat, ChildHeartbeat)


class Work(NamedTuple):
    """Numbers of slots, as the workers' last heartbeats say."""

    busy: int
    """With a batch that is within its time limit."""
    overdue: int
    """With a batch that has outlived it."""
    bulk: int
    """Of both, with a batch of the bulk lane."""
    idle: int


class Workers:
    """The workers with a fresh heartbeat; empty while the broker does not answer."""

    def __init__(self, redis: Redis, clock: BrokerClock) -> None:
        self._redis = redis
        self._clock = clock
        self.heartbeats: dict[str, Heartbeat] = {}
        """Heartbeats by worker."""
        self.children: dict[str, list[ChildHeartbeat]] = {}
        """Heartbeats of the pool children, by worker."""
        self._slots: dict[str, int] = {}
        """Number of slots by worker group."""
        self._damaged_lines = LogLimit(5, 60.0)
        self.known = False
        """True if the broker answered the last read."""

    @property
    def slots(self) -> int:
        """Number of pool children of all live workers."""
        return sum(worker.slots for worker in self.heartbeats.values())

    def slots_of(self, worker_group: str) -> int:
        """Count the pool children of a group's live workers."""
        return self._slots.get(worker_group, 0)

    def work_of(self, worker_group: str) -> Work:
        """Count the slots of a group's live workers by what they do."""
        workers = [each for each in self.heartbeats.values() if worker_group in (each.pinned or [COMMON_GROUP])]
        busy, overdue = sum(each.busy for each in workers), sum(each.overdue for each in workers)
        idle = max(0, sum(each.slots for each in workers) - busy - overdue)
        return Work(busy, overdue, sum(each.bulk for each in workers), idle)

    def group_for(self, model: str) -> str:
        """Return the worker group that serves a model now: its own while that has live workers, else the common one."""
        return model if self.slots_of(model) else COMMON_GROUP

    @property
    def groups(self) -> list[str]:
        """The worker groups to which batches are sent now, the common one first."""
        return sorted({COMMON_GROUP, *self._slots})

    def loaded_by(self, model: str) -> dict[str, bool]:
        """Map each worker of a model's group to True if all of its children have `<name> <version>` loaded."""
        return {
            worker: bool(children) and all(model in child.loaded for child in children)
            for worker, children in self._children_for(model).items()
        }

    def holders(self, name: str, version: str) -> dict[str, bool]:
        """Map each worker that holds a model to True if all of its children that hold any version of it have this one.

        A child that holds none loads a version when it is called for it.
        """
        prefix, wanted = f"{name} ", f"{name} {version}"
        holders: dict[str, bool] = {}
        for worker, children in self._children_for(prefix).items():
            holding = [child for child in children if any(model.startswith(prefix) for model in child.loaded)]
            if holding:
                holders[worker] = all(wanted in child.loaded for child in holding)
        return holders

    def refusals(self, model: str) -> set[str]:
        """Return the reasons for which children could not load `<name> <version>`."""
        all_children = (child for children in self.children.values() for child in children)
        return {child.refused[model] for child in all_children if model in child.refused}

    def held_instead(self, name: str, version: str, earlier: Sequence[str]) -> str | None:
        """Return the first of earlier versions that all workers hold, if they refuse a version and none holds it."""
        if not self.refusals(f"{name} {version}") or any(self.holders(name, version).values()):
            return None
        held = ((each, self.holders(name, each).values()) for each in earlier)
        return next((each for each, holders in held if holders and all(holders)), None)

    def _children_for(self, model: str) -> dict[str, list[ChildHeartbeat]]:
        group = self.group_for(model.partition(" ")[0])
        return {
            worker: self.children.get(worker, [])
            for worker, heartbeat in self.heartbeats.items()
            if (group in heartbeat.pinned if group else not heartbeat.pinned)
        }

    async def refresh(self) -> None:
        """Read the heartbeats and the clock.

        Raises:
            RedisError: if the broker does not answer; then no worker counts as live.
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
            self.known = False
            self._replace({}, {})
            raise
        self.known = True
        self._replace(
            await self._live(keys.WORKERS, workers, Heartbeat),
            await self._live(keys.CHILDREN, children, ChildHeartbeat),
        )

    async def _live(self, key: str, heartbeats: dict[bytes, bytes], form: type[Beat]) -> dict[str, Beat]:
        """Return the fresh heartbeats of a hash, and delete the old ones from it."""
        now = self._clock.now()
        live: dict[str, Beat] = {}
        gone: list[Any] = []
        for name, value in heartbeats.items():
            heartbeat = _parsed(value, form)
            # A heartbeat from the future was written before the broker's clock was set back.
            age_seconds = abs(now - heartbeat.at) if heartbeat else math.inf
            if heartbeat is None and (before := self._damaged_lines.admit()) is not None:
                logger.error("%s: the heartbeat of %r is damaged, and was deleted%s", key, name[:100], before)
            if heartbeat and age_seconds < LIVE_SECONDS:
                live[name.decode(errors="replace")] = heartbeat
            elif age_seconds > FORGET_SECONDS:
                gone.append(name)
        if gone:
            await self._redis.hdel(key, *gone)
        return live

    def _replace(self, workers: dict[str, Heartbeat], children: dict[str, ChildHeartbeat]) -> None:
        self.heartbeats = workers
        slots: dict[str, int] = defaultdict(int)
        for worker in workers.values():
            for group in worker.pinned or [COMMON_GROUP]:
                slots[group] += worker.slots
        self._slots = dict(slots)
        by_worker: dict[str, list[ChildHeartbeat]] = defaultdict(list)
        for name, child in children.items():
            by_worker[name.rpartition("/")[0]].append(child)
        self.children = dict(by_worker)


def _parsed(value: bytes, form: type[BaseModel]) -> Any:
    """Return a heartbeat, or None for what no worker has written."""
    if len(value) > HEARTBEAT_MAX_BYTES:
        return None
    try:
        return form.model_validate_json(value)
    except ValidationError:
        return None
