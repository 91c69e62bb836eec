"""The scaling signal: how many workers each worker group needs.

A busy slot is work, and so is what waits: a wait of the target would take as many slots again as there are to be over
by then. Prometheus records the signal by the formula of this module; there, waits are not told apart by worker group.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from shared.queue.heartbeat import Heartbeat

TARGET_WAIT_SECONDS = {"interactive": 1, "bulk": 60}
"""Wait of a lane that asks for as many slots again."""

GROWTH_MAX = 0.5
"""Slots that waits may ask for, as a share of those that there are: while workers start, the wait grows, and without a
bound more and more of them would be asked for."""

BUSY_SECONDS = 60.0
"""Time over which busy slots are averaged: a sample of batches that take milliseconds is 0 or 1 by chance."""


def waiting_slots(slots: int, waits: Mapping[str, float]) -> float:
    """Return the slots that waits ask for; `waits` has seconds by lane, a NaN for an unknown one."""
    targets = sum(seconds / TARGET_WAIT_SECONDS[lane] for lane, seconds in waits.items() if seconds >= 0)
    return slots * min(targets, GROWTH_MAX)


def wanted_workers(busy: float, slots: int, waits: Mapping[str, float], slots_per_worker: float) -> float:
    """Return the signal: workers that a group needs. A fraction says how full the last of them would be."""
    return (busy + waiting_slots(slots, waits)) / slots_per_worker


class Waiting(NamedTuple):
    """Rows or jobs that wait in a lane."""

    number: int = 0
    seconds: float = 0.0
    """Estimated time for which one that comes now would wait."""


class GroupLoad(NamedTuple):
    """The parts of the sum for one worker group, which has a slot at least."""

    models: tuple[str, ...]
    """The models to which its workers are pinned, sorted; none: they serve all others."""
    workers: int
    slots: int
    busy: float
    """Busy slots, a mean."""
    waiting: Mapping[str, Waiting]
    """By lane."""

    @property
    def view(self) -> dict[str, Any]:
        """The signal with its parts, for an answer."""
        waits, per_worker = {lane: each.seconds for lane, each in self.waiting.items()}, self.slots / self.workers
        return {
            "models": self.models,
            "wanted_workers": wanted_workers(self.busy, self.slots, waits, per_worker),
            "workers": self.workers,
            "slots": self.slots,
            "slots_per_worker": per_worker,
            "busy_slots": self.busy,
            "waiting_slots": waiting_slots(self.slots, waits),
            "waiting": {lane: self._part(lane, *each) for lane, each in self.waiting.items()},
        }

    def _part(self, lane: str, number: int, seconds: float) -> dict[str, float]:
        return {
            "count": number,
            "slot_seconds_each": self.slots * seconds / number if number else 0.0,
            "wait_seconds": seconds,
            "target_wait_seconds": TARGET_WAIT_SECONDS[lane],
        }


class ScalingSignal:
    """The load of each worker group, as last observed."""

    def __init__(self, samples: int) -> None:
        """Average busy slots over this number of observations."""
        self._samples = samples
        self._busy: dict[tuple[str, ...], deque[int]] = {}
        self.groups: list[GroupLoad] = []
        """The groups that have live workers, the common one first."""

    def observe(self, workers: Iterable[Heartbeat], rows: Mapping[str, Waiting], jobs: Waiting) -> None:
        """Take the live workers, the interactive rows that wait by model, and the jobs that wait for any worker."""
        groups: dict[tuple[str, ...], list[Heartbeat]] = {}
        for worker in workers:
            if worker.slots:
                groups.setdefault(tuple(sorted(worker.pinned)), []).append(worker)
        pinned = {model for models in groups for model in models}
        self._busy = {models: self._busy.get(models, deque(maxlen=self._samples)) for models in groups}
        self.groups = []
        for models, members in sorted(groups.items()):
            self._busy[models].append(sum(each.busy + each.overdue for each in members))
            served = [each for model, each in rows.items() if (model in models if models else model not in pinned)]
            interactive = Waiting(
                sum(each.number for each in served), max((each.seconds for each in served), default=0.0)
            )
            self.groups.append(
                GroupLoad(
                    models,
                    len(members),
                    sum(each.slots for each in members),
                    sum(self._busy[models]) / len(self._busy[models]),
                    {"interactive": interactive, "bulk": jobs},
                )
            )
