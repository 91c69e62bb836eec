"""The heartbeats that workers and their pool children write to Redis."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from headrace.models.manifest import Identifier
from shared.queue.contract import Time

HEARTBEAT_SECONDS = 1.0
"""Time between two heartbeats."""

LIVE_SECONDS = 5.0
"""Age above which a heartbeat does not count any more."""

STALLED = "stalled"
"""Field of `keys.WORKER_COUNTS`: the number of workers that stopped consuming, and therefore ended themselves."""


HEARTBEAT_MAX_BYTES = 1_000_000
"""Size above which a heartbeat is damaged."""

PINNED_MAX = 1_000
"""Models to which a worker may be pinned: gateways look at two queues of each, twice a second."""

Slots = Annotated[int, Field(ge=0, le=256)]
"""A number of pool children of one worker; `WORKER_CONCURRENCY` is no larger."""


class Heartbeat(BaseModel):
    """A worker that consumes, in `keys.WORKERS` under its name; `at` is the broker's time in seconds."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    at: Time
    slots: Slots
    pinned: Annotated[list[Identifier], Field(max_length=PINNED_MAX)] = []
    """The models that the worker is pinned to, which have queues of their own; empty: it serves all other models."""
    busy: Slots = 0
    """Slots with a batch that is within its time limit."""
    overdue: Slots = 0
    """Slots with a batch that has outlived its time limit: its pool child should have been killed."""
    bulk: Slots = 0
    """Slots, of both, whose batch is of the bulk lane."""


class ChildHeartbeat(BaseModel):
    """A pool child, in `keys.CHILDREN` under `<worker>/<slot>`."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    at: Time
    loaded: list[str] = []
    """`<name> <version>` of the predictors in its memory."""
    refused: dict[str, str] = {}
    """`<name> <version>` -> why it could not be loaded."""
