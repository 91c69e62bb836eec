"""Queue entries that were no tasks, put aside in Redis with what is known of them."""

import base64
import uuid

from pydantic import BaseModel, ConfigDict, ValidationError

KEPT = 1000
"""Dead letters at most; beyond it the oldest are forgotten."""


class DeadLetter(BaseModel):
    """One of `keys.DEAD_LETTERS`; `at` is the broker's time in seconds, `queue` where it came from."""

    model_config = ConfigDict(frozen=True)

    id: str
    at: float
    queue: str
    reason: str
    entry: str
    """As it came, in base64: it need not be text."""

    @classmethod
    def of(cls, entry: bytes, queue: str, reason: str, at: float) -> "DeadLetter":
        """A new one."""
        return cls(
            id=uuid.uuid4().hex[:12], at=at, queue=queue, reason=reason, entry=base64.b64encode(entry).decode("ascii")
        )

    @property
    def content(self) -> bytes:
        """The entry as it came."""
        return base64.b64decode(self.entry)


def read(letter: bytes) -> DeadLetter | None:
    """A dead letter as it is kept, None for what is none."""
    try:
        return DeadLetter.model_validate_json(letter)
    except ValidationError:
        return None
