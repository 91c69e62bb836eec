"""Slots: how many batches may be in flight, and whose turn it is to send one."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.broker.workers import Workers

QUICK_KEEPS_SECONDS = 10.0
"""How long a slot stays kept free of slow models after a quick one had something to send."""


class Sender(Protocol):
    """Someone with rows to send."""

    @property
    def model(self) -> str:
        """The model that the rows are for."""

    @property
    def slow(self) -> bool:
        """Whether one batch may hold its slot for longer than others should wait."""

    def send_next(self, slots: "Slots") -> bool:
        """Send one batch if there is something to send; whether there is more."""


@dataclass(eq=False)
class Slot:
    """A slot that a batch holds until it is answered, or given up."""

    slots: "Slots"
    slow: bool

    def give_back(self) -> None:
        """Let others have it; once."""
        self.slots.give_back(self)


class Slots:
    """The slots of one pool of workers, as this process uses them; lanes take turns, batch by batch.

    Turns alone would let a slow model hold every slot, and each quick one wait for a batch of it. So while quick
    models are about, slow ones together leave one slot free.
    """

    def __init__(self, pool: str, total: Callable[[str], int]) -> None:
        self.pool = pool
        self._total = total
        self._taken: set[Slot] = set()
        self._asking: deque[Sender] = deque()
        self._pump_scheduled = False
        self._quick_until = float("-inf")

    @property
    def total(self) -> int:
        """Slots of the live workers."""
        return self._total(self.pool)

    @property
    def free(self) -> int:
        """How many batches may be sent now."""
        return self.total - len(self._taken)

    def free_for(self, sender: Sender) -> int:
        """How many of them may be of this one."""
        if sender.slow and self.total > 1 and asyncio.get_running_loop().time() < self._quick_until:
            return min(self.free, self.total - 1 - sum(slot.slow for slot in self._taken))
        return self.free

    def ask(self, sender: Sender) -> None:
        """Let someone send when it is their turn."""
        if not sender.slow:
            self._quick_until = asyncio.get_running_loop().time() + QUICK_KEEPS_SECONDS
        if sender not in self._asking:
            self._asking.append(sender)
        self.wake()

    def wake(self) -> None:
        """Send what may be sent, after everything else that is ready in this turn of the event loop."""
        if not self._pump_scheduled and self._asking:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self.pump)

    def dismiss(self) -> list[Sender]:
        """Forget who waits for a turn; they must ask again, here or elsewhere."""
        asking, self._asking = list(self._asking), deque()
        return asking

    def pump(self) -> None:
        """Send what may be sent."""
        self._pump_scheduled = False
        held_back: list[Sender] = []
        while self._asking and self.free > 0:
            sender = self._asking.popleft()
            if self.free_for(sender) < 1:
                held_back.append(sender)
            elif sender.send_next(self):
                self._asking.append(sender)
        self._asking.extendleft(reversed(held_back))

    def take(self, sender: Sender) -> Slot:
        """A batch goes out."""
        slot = Slot(self, sender.slow)
        self._taken.add(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """A batch was answered, or given up."""
        self._taken.discard(slot)


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

    def wake(self) -> None:
        """Workers may have come or gone: whoever waits for a turn does so in the pool that serves the model now."""
        for sender in [sender for pool in self._worker_groups.values() for sender in pool.dismiss()]:
            self.serving(sender.model).ask(sender)
