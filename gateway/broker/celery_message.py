"""The queue entry of a task, as a Celery producer would write it, without Celery's blocking connection."""

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
"""Position of a call in its batch, in digits -> `traceparent` and the like; of the calls that are sampled."""

NOT_TRACED: Final[Traces] = {}

_DESTINATION: dict[type[Message], tuple[str, Lane]] = {
    PredictMessage: (PREDICT_TASK, Lane.INTERACTIVE),
    RunJobsMessage: (RUN_JOBS_TASK, Lane.BULK),
    ShadowMessage: (SHADOW_TASK, Lane.BULK),
}


def lane_of(message: Message) -> Lane:
    """The queue that a message belongs to."""
    return _DESTINATION[type(message)][1]


def envelope(app: Celery, message: Message, pool: str, published_at: float, traces: Traces = NOT_TRACED) -> bytes:
    """The entry to LPUSH: Celery's message protocol 2 inside kombu's virtual transport format.

    `published_at`, in seconds of the broker's clock, is ours: the age of the oldest entry tells whether an overdue
    job still waits in the queue or was lost. So is `traces`, a header that is there only if it says something; a
    worker that does not know it does not mind.
    """
    task, lane = _DESTINATION[type(message)]
    task_id = str(uuid.uuid4())
    # Without the reprs Celery would put the rows in front of everyone who watches its events.
    headers, properties, body, _ = app.amqp.as_task_v2(
        task_id, task, args=[message.to_json()], kwargs={}, argsrepr="", kwargsrepr="", ignore_result=True
    )
    headers["published_at"] = published_at
    if traces:
        headers["traces"] = traces
    entry: dict[str, Any] = {
        # As text: in base64, which Celery puts around it, thousands of rows take a third more room in every hand.
        "body": orjson.dumps(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            **properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue_name(lane, pool)},
            "priority": 0,
            "delivery_tag": task_id,
        },
    }
    return orjson.dumps(entry)
