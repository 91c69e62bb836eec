"""Dead letters: queue entries that were not tasks of ours, kept in Redis with the reason."""

import base64
import uuid

from pydantic import BaseModel, ConfigDict, ValidationError

KEPT = 1000
"""Number of dead letters that are kept; older ones are dropped."""

KEPT_BYTES = 32_000_000
"""Bytes that dead letters of one size may have together; of larger ones fewer are kept."""


class DeadLetter(BaseModel):
    """A member of `keys.DEAD_LETTERS`; `at` is the broker's time in seconds, `queue` the list that the entry was in."""

    model_config = ConfigDict(frozen=True)

    id: str
    at: float
    queue: str
    reason: str
    entry: str
    """The entry in base64, because it need not be text."""

    @classmethod
    def of(cls, entry: bytes, queue: str, reason: str, at: float) -> "DeadLetter":
        """Return the dead letter of an entry."""
        return cls(
            id=uuid.uuid4().hex[:12], at=at, queue=queue, reason=reason, entry=base64.b64encode(entry).decode("ascii")
        )

    @property
    def content(self) -> bytes:
        """The entry as it was in the queue."""
        return base64.b64decode(self.entry)


def read(letter: bytes) -> DeadLetter | None:
    """Return a dead letter as it is kept in Redis, None if it cannot be read."""
    try:
        return DeadLetter.model_validate_json(letter)
    except ValidationError:
        return None


def kept_after(letter: str) -> int:
    """Return the number of dead letters that are kept when this one, as JSON, has come last; at least 1."""
    return max(1, min(KEPT, KEPT_BYTES // len(letter)))
