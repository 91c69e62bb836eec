"""Slots: how many batches may be in flight, and which model may send the next one."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.broker.workers import Work, Workers
from gateway.errors import BrokerUnavailable, NoWorker, RequestError

QUICK_KEEPS_SECONDS = 10.0
"""Time for which one slot is kept free of slow models after a quick model had something to send."""

LATE_CHECKED_SECONDS = 2.0
"""Time for which a late batch is taken for one that is computed; the workers' heartbeats are this old at most."""


class Sender(Protocol):
    """The rows of one model that wait to be sent: a Batcher, for Slots."""

    @property
    def model(self) -> str:
        """The name of the model."""

    @property
    def slow(self) -> bool:
        """True if one batch may hold its slot for longer than other models should wait."""

    def send_next(self, slots: "Slots") -> bool:
        """Send one batch, if rows wait; return True if more rows wait."""


@dataclass(eq=False)
class Permit:
    """The right of one batch in flight to a slot, until the batch is answered or lost."""

    slots: "Slots"
    slow: bool
    late_since: float = math.inf
    """Time of the event loop since which nobody waits for the batch any more; a worker may still compute it."""

    def mark_late(self) -> None:
        """Note that the last deadline of the batch has passed. Its callers choose that, so it frees no slot."""
        self.late_since = asyncio.get_running_loop().time()

    def give_back(self) -> None:
        """Let another batch have the slot, unless it has it already."""
        self.slots.give_back(self)


class Slots:
    """The slots of one worker group, as this process uses them; models take turns, batch by batch.

    Turns alone would let a slow model hold every slot, and each quick model wait for one of its batches. So while
    quick models have something to send, slow models together leave one slot free, besides those that the bulk lane
    holds. They have one slot in any case: where the bulk lane holds all others, a quick model waits for that one. After
    a batch of it that has waited there until its deadline, its next one goes before those of slow models.
    """

    def __init__(self, worker_group: str, total: Callable[[str], int]) -> None:
        """`total` returns the number of slots of a worker group's live workers."""
        self.worker_group = worker_group
        self._total = total
        self._permits: set[Permit] = set()
        self._turns: deque[Sender] = deque()
        self._asked: set[Sender] = set()
        """Models that have asked for a turn since batches were sent last."""
        self._sending_scheduled = False
        self._quick_until = float("-inf")
        self._n_bulk = 0

    @property
    def total(self) -> int:
        """Number of slots of the live workers."""
        return self._total(self.worker_group)

    @property
    def free(self) -> int:
        """Number of batches that may be sent now; negative after workers have gone."""
        return self.total - len(self._permits)

    def free_for(self, sender: Sender) -> int:
        """Return the number of batches that this model may send now."""
        if sender.slow and self._quick_is_late:
            return 0
        if sender.slow and self.total > 1 and asyncio.get_running_loop().time() < self._quick_until:
            slow_slots = max(1, self.total - self._n_bulk - 1)
            return min(self.free, slow_slots - sum(permit.slow for permit in self._permits))
        return self.free

    @property
    def _quick_is_late(self) -> bool:
        """True if a quick batch has waited for a worker until its deadline, and still does."""
        return any(permit.late_since < math.inf and not permit.slow for permit in self._permits)

    def request_turn(self, sender: Sender) -> None:
        """Let a model send when its turn comes; it has one turn at a time, however often it asks."""
        if sender in self._asked:
            return
        self._asked.add(sender)
        if not sender.slow:
            self._quick_until = asyncio.get_running_loop().time() + QUICK_KEEPS_SECONDS
        if sender not in self._turns:
            self._turns.append(sender)
        self.schedule_sending()

    def schedule_sending(self) -> None:
        """Call `send_batches` after everything else that is ready in this turn of the event loop."""
        if not self._sending_scheduled and self._turns:
            self._sending_scheduled = True
            asyncio.get_running_loop().call_soon(self.send_batches)

    def cancel_turns(self) -> list[Sender]:
        """Forget and return the models that wait for a turn; they must request one again, here or elsewhere."""
        waiting, self._turns = list(self._turns), deque()
        self._asked.clear()
        return waiting

    def send_batches(self) -> None:
        """Let the models send batches in turn until no slot is free or nothing waits."""
        self._sending_scheduled = False
        self._asked.clear()
        held_back: list[Sender] = []
        while self._turns and self.free > 0:
            sender = self._turns.popleft()
            if self.free_for(sender) < 1:
                held_back.append(sender)
            elif sender.send_next(self):
                self._turns.append(sender)
        if self._quick_is_late:
            # Sent at the same time, a quick batch would wait behind a slow one again.
            self._turns.extend(held_back)
        else:
            self._turns.extendleft(reversed(held_back))

    def issue_permit(self, slow: bool) -> Permit:
        """Count a batch that goes out now; `slow` is what its sender was just before."""
        permit = Permit(self, slow)
        self._permits.add(permit)
        return permit

    def give_back(self, permit: Permit) -> None:
        """Count off a batch that was answered or lost."""
        self._permits.discard(permit)

    def follow_workers(self, work: Work) -> None:
        """Take what the workers of the group do, as they say; count off late batches that none of them holds."""
        self._n_bulk = work.bulk
        now = asyncio.get_running_loop().time()
        late = sorted(
            (each for each in self._permits if each.late_since < now - LATE_CHECKED_SECONDS),
            key=lambda each: each.late_since,
        )
        n_late_held = max(0, work.busy + work.overdue - (len(self._permits) - len(late)))
        for permit in late[: max(0, len(late) - n_late_held)]:
            self._permits.discard(permit)
        self.schedule_sending()


class WorkerGroups:
    """The slots of each worker group: of the common one, and of one per model that has workers of its own."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._worker_groups: dict[str, Slots] = {}

    def serving(self, model: str) -> Slots:
        """Return the slots of the worker group that serves a model now."""
        group = self._workers.group_for(model)
        if group not in self._worker_groups:
            self._worker_groups[group] = Slots(group, self._workers.slots_of)
        return self._worker_groups[group]

    def no_slots(self) -> RequestError:
        """Return the reason for which a group has no slots: no worker lives, or the broker does not tell."""
        return NoWorker() if self._workers.known else BrokerUnavailable()

    def follow_workers(self) -> None:
        """Follow the last heartbeats.

        Each model that waits for a turn waits in the group that serves it now, since workers may have come or gone;
        and the slots of lost batches are free.
        """
        for group, slots in self._worker_groups.items():
            slots.follow_workers(self._workers.work_of(group))
        for sender in [sender for slots in self._worker_groups.values() for sender in slots.cancel_turns()]:
            self.serving(sender.model).request_turn(sender)
