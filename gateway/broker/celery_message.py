"""Queue entries as a Celery producer would write them, but without Celery's blocking connection."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

import orjson
from celery import Celery

from shared.queue.contract import (
    PREDICT_TASK,
    RUN_JOBS_TASK,
    SHADOW_TASK,
    Lane,
    Message,
    PredictMessage,
    RunJobsMessage,
    ShadowMessage,
    queue_name,
)

Traces = Mapping[str, Mapping[str, str]]
"""Trace context (`traceparent`, `tracestate`) of each sampled call, by the call's position in its batch, in digits."""

NOT_TRACED: Final[Traces] = {}

_DESTINATION: dict[type[Message], tuple[str, Lane]] = {
    PredictMessage: (PREDICT_TASK, Lane.INTERACTIVE),
    RunJobsMessage: (RUN_JOBS_TASK, Lane.BULK),
    ShadowMessage: (SHADOW_TASK, Lane.BULK),
}


def lane_of(message: Message) -> Lane:
    """Return the lane that a message belongs to."""
    return _DESTINATION[type(message)][1]


def queue_entry(
    app: Celery, message: Message, worker_group: str, published_at: float, traces: Traces = NOT_TRACED
) -> bytes:
    """Write a message as an entry to LPUSH: Celery's message protocol 2 inside kombu's virtual transport format.

    Two headers are not Celery's. `published_at`, in seconds of the broker's clock, gives the age of the oldest entry,
    which tells whether an overdue job still waits in the queue or was lost. `traces` is left out where it is empty; a
    worker that does not know it ignores it.
    """
    task, lane = _DESTINATION[type(message)]
    task_id = str(uuid.uuid4())
    # Empty reprs: by default Celery writes the arguments, which are rows, into headers that its event monitors show.
    headers, properties, body, _ = app.amqp.as_task_v2(
        task_id, task, args=[message.to_json()], kwargs={}, argsrepr="", kwargsrepr="", ignore_result=True
    )
    headers["published_at"] = published_at
    if traces:
        headers["traces"] = traces
    entry: dict[str, Any] = {
        # Plain text. Celery's producer encodes the body in base64, which makes it a third larger at every step.
        "body": orjson.dumps(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            **properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue_name(lane, worker_group)},
            "priority": 0,
            "delivery_tag": task_id,
        },
    }
    return orjson.dumps(entry)
