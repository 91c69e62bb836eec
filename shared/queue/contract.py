"""The contract of the queue: lanes, task names, messages, replies, statuses. Versioned JSON, never pickle."""

from enum import Enum
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field

from shared.queue import keys

CONTRACT_VERSION: Final = 2

PREDICT_TASK = "headrace.predict"
RUN_JOBS_TASK = "headrace.run_jobs"
SHADOW_TASK = "headrace.shadow"

Row = list[Any]
"""One input record: its values in the order of the manifest's features."""


COMMON_GROUP = ""
"""The worker group that serves every model without workers of its own."""


class Lane(str, Enum):
    """A queue with its policy. The value is also the name of the Redis list that workers for any model consume."""

    #: A caller waits for the answer; past its deadline it is never computed.
    INTERACTIVE = "interactive"
    #: Durable; a caller polls for the outcome.
    BULK = "bulk"


_LANES = frozenset(lane.value for lane in Lane)


def queue_name(lane: Lane, worker_group: str) -> str:
    """Return the Redis list of a lane: the common one, or that of the workers pinned to the model `worker_group`."""
    return f"{lane.value}.{worker_group}" if worker_group else lane.value


def is_queue(name: str) -> bool:
    """Return True if a Redis list is that of a lane, for any worker group."""
    return name.partition(".")[0] in _LANES


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
    """The reason why a call or a job got no prediction: a closed set, used as a metric label."""

    #: The model failed, whatever the values of the row: it fails for its samples too, or answers in the wrong shape
    #: or with values that JSON does not have.
    PREDICTION_FAILED = "prediction_failed"
    #: The estimator raised for a row, or answered NaN or infinity, although it predicts others.
    ROW_REJECTED = "row_rejected"
    #: The answer to so many rows is larger than the worker may write, or than Redis has memory for.
    RESULT_TOO_LARGE = "result_too_large"
    #: The worker could not load the model version.
    MODEL_UNAVAILABLE = "model_unavailable"
    #: The deadline passed before the batch was started.
    DEADLINE_EXCEEDED = "deadline_exceeded"
    #: The batch ran longer than the soft time limit.
    TIME_LIMIT = "time_limit"
    #: The process that ran it died.
    WORKER_LOST = "worker_lost"


JOB_DAMAGED = "job_damaged"
"""Code of the error of a job whose record was damaged, by a fault or by another program: no row of it was computed."""

ReplyTo = Annotated[str, Field(pattern=f"^{keys.replies('')}")]
"""Key of a reply stream. A worker writes the reply into it and has it expire, so it must not be any other key."""

BatchNumber = Annotated[int, Field(ge=0, lt=2**63)]
"""Number of a batch, which its reply repeats; no larger than JSON may hold."""

Name = Annotated[str, Field(max_length=64)]
"""Name of a model or of a version: it becomes a label of metrics and a part of log lines."""

Time = Annotated[float, Field(ge=0, lt=1e11)]
"""Time of the broker's clock in seconds, before the year 5000: sums and dates of it stay in range."""

ComputeSeconds = Annotated[float, Field(ge=0, le=1e6)]
"""Compute time of a batch, which a time limit ends long before."""

JOBS_MAX = 1_000
"""Jobs in one message; the gateway puts in fewer."""

CALLS_MAX = 100_000
"""Calls in one message; the gateway puts in as many as it has rows in a batch at most."""

AnyMessage = TypeVar("AnyMessage", bound="Message")


class Message(BaseModel):
    """Base of the messages; unknown fields and unknown versions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    v: Literal[2] = CONTRACT_VERSION

    def to_json(self) -> str:
        """Return the message as JSON, the single positional argument of its task."""
        # orjson takes tuples, but not their subclasses.
        return orjson.dumps(self.__dict__, default=tuple).decode()

    @classmethod
    def from_json(cls: type[AnyMessage], payload: str | bytes) -> AnyMessage:
        """Return the message of a payload. Its fields are checked, the values inside rows and results are not.

        Raises:
            ValueError: if the payload is not such a message.
        """
        # orjson reads long lists twice as fast as pydantic.
        return cls.model_validate(orjson.loads(payload))


class Call(NamedTuple):
    """One caller's part of a batch. Times are seconds of the broker's clock."""

    n_rows: Annotated[int, Field(ge=1, lt=2**31)]
    accepted_at: Time
    deadline: Time
    first: bool = True
    """True if it holds the first of the caller's rows: the wait in the queue is counted once."""
    takes_bytes: bool = False
    """True if the caller takes probabilities as bytes: those of many rows are packed."""


class PredictMessage(Message):
    """A batch of interactive calls for one model version; `rows` holds the calls' rows one after another.

    Many rows of numbers are packed, see `shared.queue.packed_rows`.
    """

    batch: BatchNumber
    reply_to: ReplyTo
    model: Name
    version: Name
    calls: Annotated[list[Call], Field(max_length=CALLS_MAX)]
    rows: list[Row] | str
    probe: bool = False


class RunJobsMessage(Message):
    """Jobs to run; their rows are in their records."""

    jobs: Annotated[list[str], Field(max_length=JOBS_MAX)]


class ShadowMessage(Message):
    """Rows that version `primary` has answered, for a version on trial: to be compared, never answered."""

    model: Name
    version: Name
    primary: Name
    rows: list[Row]
    predictions: list[Any]


class BatchReply(Message):
    """The answer to a PredictMessage: one result per call, in the same order.

    A result is as `shared.queue.replies.Result` says.
    `started_at` is in seconds of the broker's clock, `compute_seconds` the time inside the estimator.
    """

    batch: BatchNumber
    started_at: Time
    compute_seconds: ComputeSeconds
    results: list[dict[str, Any]]

    @property
    def ran_into_time_limit(self) -> bool:
        """True if the batch ended at its soft time limit, and none of its calls has an answer."""
        error = self.results[0].get("error") if self.results else None
        return isinstance(error, dict) and error.get("code") == ErrorCode.TIME_LIMIT.value
