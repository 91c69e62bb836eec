"""Dead letters: queue entries that were not tasks of ours, and damaged data, kept in Redis with the reason."""

import base64
import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.queue import keys

KEPT = 1000
"""Number of dead letters that are kept; older ones are dropped."""

KEPT_BYTES = 32_000_000
"""Bytes that dead letters of one size may have together; of larger ones fewer are kept."""

YEAR_10000 = 253_402_300_800
"""Time in seconds that no date can have any more."""


class DeadLetter(BaseModel):
    """A member of `keys.DEAD_LETTERS`; `at` is the broker's time in seconds, `queue` the list that the entry was in.

    Damaged data was in no queue: `queue` is empty.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    at: float = Field(ge=0, lt=YEAR_10000)
    queue: str
    reason: str
    entry: str
    """The entry in base64, because it need not be text."""

    @field_validator("entry")
    @classmethod
    def _is_base64(cls, entry: str) -> str:
        base64.b64decode(entry, validate=True)
        return entry

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


def bury(client: Any, letter: DeadLetter) -> None:
    """Add a dead letter, and drop older ones that are too many; `client` is a blocking client of Redis."""
    text = letter.model_dump_json()
    client.lpush(keys.DEAD_LETTERS, text)
    client.ltrim(keys.DEAD_LETTERS, 0, kept_after(text) - 1)


def kept_after(letter: str) -> int:
    """Return the number of dead letters that are kept when this one, as JSON, has come last; at least 1."""
    return max(1, min(KEPT, KEPT_BYTES // len(letter)))
