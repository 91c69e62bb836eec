"""The lanes that a worker polls: while callers wait for predictions, bulk leaves them a slot."""

from time import monotonic
from typing import Any

from kombu.utils.scheduling import round_robin_cycle

from shared.queue.contract import Lane

INTERACTIVE_KEEPS_SECONDS = 10.0
"""Time that slots stay free of bulk after an interactive entry was taken."""


class LaneCycle(round_robin_cycle):  # type: ignore[misc]
    """kombu's round robin of the queues, without those of bulk while bulk has its share of the slots.

    Lanes take turns, so bulk gets its share of every slot that is free. But a bulk batch may run for seconds, and
    with all slots in such batches an interactive batch would wait for one of them to end.
    """

    def __init__(self, bulk_slots: int) -> None:
        super().__init__()
        self._bulk_slots = bulk_slots
        self._bulk_in_hand: set[str] = set()
        self._interactive_until = float("-inf")

    def take(self, queue: str, tag: str) -> None:
        """Note that the entry with this delivery tag was taken from a queue."""
        if is_bulk(queue):
            self._bulk_in_hand.add(tag)
        else:
            self._interactive_until = monotonic() + INTERACTIVE_KEEPS_SECONDS

    def release(self, tag: str) -> bool:
        """Note that an entry was acknowledged or given back; return True if that frees a slot of bulk's share."""
        if tag not in self._bulk_in_hand:
            return False
        self._bulk_in_hand.remove(tag)
        return True

    def consume(self, n: int) -> Any:
        """Return those of the next n queues from which an entry may be taken now."""
        queues = super().consume(n)
        if len(self._bulk_in_hand) < self._bulk_slots or monotonic() >= self._interactive_until:
            return queues
        return [queue for queue in queues if not is_bulk(queue)]


def is_bulk(queue: str) -> bool:
    """Return True for the list of the bulk lane that is common, or that of a worker group."""
    return queue.partition(".")[0] == Lane.BULK.value
