"""Which lanes a worker asks for tasks: while someone waits for predictions, bulk leaves them a slot."""

from time import monotonic
from typing import Any

from kombu.utils.scheduling import round_robin_cycle

from shared.queue.contract import Lane

INTERACTIVE_KEEPS_SECONDS = 10.0
"""How long slots stay free of bulk after an interactive task came."""


class LaneCycle(round_robin_cycle):  # type: ignore[misc]
    """kombu's turns of the queues, without those of bulk while it has its share of the slots.

    Lanes take turns, so bulk gets its share of every slot that is free. But a bulk batch may run for seconds, and
    with all slots in such batches an interactive one would wait for them to end.
    """

    def __init__(self, bulk_slots: int) -> None:
        super().__init__()
        self._bulk_slots = bulk_slots
        self._bulk_in_hand: set[str] = set()
        self._interactive_until = float("-inf")

    def took(self, queue: str, tag: str) -> None:
        """A task came from a queue."""
        if _is_bulk(queue):
            self._bulk_in_hand.add(tag)
        else:
            self._interactive_until = monotonic() + INTERACTIVE_KEEPS_SECONDS

    def gave(self, tag: str) -> bool:
        """A task is off our hands; whether bulk has got a slot by that."""
        if tag not in self._bulk_in_hand:
            return False
        self._bulk_in_hand.remove(tag)
        return True

    def consume(self, n: int) -> Any:
        """The next n queues, those from which a task may come now."""
        queues = super().consume(n)
        if len(self._bulk_in_hand) < self._bulk_slots or monotonic() >= self._interactive_until:
            return queues
        return [queue for queue in queues if not _is_bulk(queue)]


def _is_bulk(queue: str) -> bool:
    # The lane's own list, or that of a pool.
    return queue.partition(".")[0] == Lane.BULK.value
