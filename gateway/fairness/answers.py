"""Large answers: counted against one limit until they are sent, and handed to their connections in pieces."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext

from gateway.fairness.budget import Budget
from gateway.problems import overloaded

PIECE_BYTES = 65_536
"""Bytes of an answer that a connection gets at once: as many as it holds before it asks to wait.

Answers that fit into one piece are not counted: a connection holds two pieces at most that its caller has not taken.
"""


TurnOf = Callable[[str], AbstractAsyncContextManager[None]]
"""Turn of an owner of API keys at work of which little is done at a time."""


class AnswerBudget:
    """A limit on the bytes of large answers in this process.

    An answer counts from the moment at which its size is known, which for a prediction is before its rows are queued,
    until all of it was handed to the connection.
    """

    def __init__(
        self, max_bytes: int, rejected: Callable[[str], None], turn_of: TurnOf = lambda _: nullcontext()
    ) -> None:
        """Take the limit.

        Args:
            max_bytes: limit of bytes.
            rejected: counts a caller turned away, by reason.
            turn_of: returns the context in which an answer of an owner is written.
        """
        self._budget = Budget(max_bytes)
        self._rejected = rejected
        self.turn_of = turn_of
        """Turn of an owner at writing an answer, which takes several times the memory of its text."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the answers that count now."""
        return self._budget.held

    def hold(self, size: int, held: int, owner: str) -> None:
        """Count an answer of this size, of which `held` bytes count already, until `release`.

        An owner of API keys may have half of the limit. An answer that is alone is never too large.

        Raises:
            Problem: 503 if the limit would be exceeded.
        """
        share = self._budget.share_of(owner)
        if not share.has_room(size, held):
            self._rejected("answers_full")
            raise overloaded("answers_full", "too many large answers are being made or sent", 2)
        share.add(size - held)

    def release(self, size: int, owner: str) -> None:
        """Take an answer off the count."""
        self._budget.share_of(owner).add(-size)


def in_pieces(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces of a body, each with True if another one follows; of an empty body an empty piece."""
    for start in range(0, max(len(body), 1), PIECE_BYTES):
        end = start + PIECE_BYTES
        yield body[start:end], end < len(body)
