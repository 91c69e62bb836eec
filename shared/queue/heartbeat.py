"""What workers and their children say of themselves in Redis."""

from pydantic import BaseModel, ConfigDict

HEARTBEAT_SECONDS = 1.0
"""Time between two announcements."""

LIVE_SECONDS = 5.0
"""Age at which an announcement counts no more."""

STALLED = "stalled"
"""Field of `keys.WORKER_COUNTS`: workers that had stopped consuming, and ended themselves."""


class Heartbeat(BaseModel):
    """A worker that consumes, in `keys.WORKERS` under its name; `at` is the broker's time in seconds."""

    model_config = ConfigDict(frozen=True)

    at: float
    slots: int
    pinned: list[str] = []
    """The models that it serves alone, from queues of their own; empty: it serves all others."""


class ChildHeartbeat(BaseModel):
    """A pool child, in `keys.CHILDREN` under `<worker>/<slot>`."""

    model_config = ConfigDict(frozen=True)

    at: float
    loaded: list[str] = []
    """`<name> <version>` of the predictors in its memory."""
    refused: dict[str, str] = {}
    """`<name> <version>` -> why it could not be loaded."""
