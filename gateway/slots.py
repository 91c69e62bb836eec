"""Slots: how many batches may be in flight, and whose turn it is to send one."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

COMMON = ""
"""The pool of the workers that serve any model."""


class Sender(Protocol):
    """Someone with rows to send."""

    @property
    def model(self) -> str:
        """The model that the rows are for."""

    def send_next(self, slots: "Slots") -> bool:
        """Send one batch if there is something to send; whether there is more."""


class Slots:
    """The slots of one pool of workers, as this process uses them; lanes take turns, batch by batch."""

    def __init__(self, pool: str, total: Callable[[str], int]) -> None:
        self.pool = pool
        self._total = total
        self._taken = 0
        self._asking: deque[Sender] = deque()
        self._pump_scheduled = False

    @property
    def total(self) -> int:
        """Slots of the live workers."""
        return self._total(self.pool)

    @property
    def free(self) -> int:
        """How many batches may be sent now."""
        return self.total - self._taken

    def ask(self, sender: Sender) -> None:
        """Let someone send when it is their turn."""
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
        while self._asking and self.free > 0:
            sender = self._asking.popleft()
            if sender.send_next(self):
                self._asking.append(sender)

    def take(self) -> None:
        """A batch goes out."""
        self._taken += 1

    def give_back(self) -> None:
        """A batch was answered, or given up."""
        self._taken -= 1


class Pools:
    """The pools of workers: the common one, and one per model that has workers of its own."""

    def __init__(self, total: Callable[[str], int]) -> None:
        self._total = total
        self._pools: dict[str, Slots] = {}

    def of(self, model: str) -> Slots:
        """The pool that serves a model now."""
        return self._pool(model if self._total(model) else COMMON)

    def _pool(self, name: str) -> Slots:
        if name not in self._pools:
            self._pools[name] = Slots(name, self._total)
        return self._pools[name]

    def wake(self) -> None:
        """Workers may have come or gone: whoever waits for a turn does so in the pool that serves the model now."""
        for sender in [sender for pool in self._pools.values() for sender in pool.dismiss()]:
            self.of(sender.model).ask(sender)
