"""What crosses the queue: lanes, task names, messages, replies, statuses. Versioned JSON, never pickle."""

from enum import Enum
from typing import Any, Final, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict

CONTRACT_VERSION: Final = 1

PREDICT_TASK = "millrace.predict"
RUN_JOBS_TASK = "millrace.run_jobs"
SHADOW_TASK = "millrace.shadow"

Row = list[Any]
"""One input record: its values in the order of the manifest's features."""


class Lane(str, Enum):
    """A queue with its policy. The value is also the name of the Redis list that workers for any model consume."""

    #: Someone waits for the answer; past its deadline it is never computed.
    INTERACTIVE = "interactive"
    #: Someone polls for the outcome; durable.
    BULK = "bulk"


def queue_name(lane: Lane, pool: str) -> str:
    """The Redis list of a lane: the common one, or that of the workers that are pinned to the model `pool`."""
    return f"{lane.value}.{pool}" if pool else lane.value


class JobStatus(str, Enum):
    """The life of a job. The last four are outcomes: written once, never changed."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


OUTCOMES = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)


class ErrorCode(str, Enum):
    """Why a call or a job got no prediction: a closed set, used as a metric label."""

    #: The estimator raised for a row.
    PREDICTION_FAILED = "prediction_failed"
    #: The estimator answered NaN or infinity.
    NON_FINITE_OUTPUT = "non_finite_output"
    #: The worker could not load the model version.
    MODEL_UNAVAILABLE = "model_unavailable"
    #: The deadline passed before the batch was started.
    DEADLINE_EXCEEDED = "deadline_exceeded"
    #: The batch ran longer than the soft time limit.
    TIME_LIMIT = "time_limit"
    #: The process that ran it died.
    WORKER_LOST = "worker_lost"


class Message(BaseModel):
    """Base of the messages; unknown fields and unknown versions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = CONTRACT_VERSION

    def to_json(self) -> str:
        """The message as the single positional argument of its task."""
        # orjson takes tuples, but not their subclasses.
        return orjson.dumps(self.__dict__, default=tuple).decode()


class Call(NamedTuple):
    """One caller's part of a batch. Times are seconds of the broker's clock."""

    n_rows: int
    accepted_at: float
    deadline: float


class PredictMessage(Message):
    """A batch of interactive calls for one model version; `rows` holds the calls' rows one after another."""

    batch: int
    reply_to: str
    model: str
    version: str
    calls: list[Call]
    rows: list[Row]
    canary: bool = False


class RunJobsMessage(Message):
    """Jobs to run; their rows are in their records."""

    jobs: list[str]


class ShadowMessage(Message):
    """Rows that `primary` has answered, for a version that is on trial: to be compared, never answered."""

    model: str
    version: str
    primary: str
    rows: list[Row]
    predictions: list[Any]


class BatchReply(Message):
    """The answer to a PredictMessage: one result per call, in the same order.

    A result is `{"predictions": [...], "probabilities": [[...]] | None}` or `{"error": {code, message, rows}}`.
    `started_at` is in seconds of the broker's clock, `compute_seconds` the time inside the estimator.
    """

    batch: int
    started_at: float
    compute_seconds: float
    results: list[dict[str, Any]]
