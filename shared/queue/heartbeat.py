"""The heartbeats that workers and their pool children write to Redis."""

from pydantic import BaseModel, ConfigDict

HEARTBEAT_SECONDS = 1.0
"""Time between two heartbeats."""

LIVE_SECONDS = 5.0
"""Age above which a heartbeat does not count any more."""

STALLED = "stalled"
"""Field of `keys.WORKER_COUNTS`: the number of workers that stopped consuming, and therefore ended themselves."""


class Heartbeat(BaseModel):
    """A worker that consumes, in `keys.WORKERS` under its name; `at` is the broker's time in seconds."""

    model_config = ConfigDict(frozen=True)

    at: float
    slots: int
    pinned: list[str] = []
    """The models that the worker is pinned to, which have queues of their own; empty: it serves all other models."""
    busy: int = 0
    """Slots with a batch that is within its time limit."""
    overdue: int = 0
    """Slots with a batch that has outlived its time limit: its pool child should have been killed."""


class ChildHeartbeat(BaseModel):
    """A pool child, in `keys.CHILDREN` under `<worker>/<slot>`."""

    model_config = ConfigDict(frozen=True)

    at: float
    loaded: list[str] = []
    """`<name> <version>` of the predictors in its memory."""
    refused: dict[str, str] = {}
    """`<name> <version>` -> why it could not be loaded."""
