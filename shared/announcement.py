"""What a worker says of itself in `keys.WORKERS`."""

from pydantic import BaseModel, ConfigDict

ANNOUNCE_SECONDS = 1.0
"""Time between two announcements."""

LIVE_SECONDS = 5.0
"""Age at which an announcement counts no more."""


class Announcement(BaseModel):
    """A worker that consumes. `models` are `<name> <version>` in its memory, `at` is the broker's time in seconds."""

    model_config = ConfigDict(frozen=True)

    at: float
    slots: int
    models: list[str]
