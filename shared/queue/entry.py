"""The check that a queue entry is a task of ours, made before anything else reads the entry."""

import base64
from typing import Any, NamedTuple

import orjson

from shared.queue.contract import PREDICT_TASK, RUN_JOBS_TASK, SHADOW_TASK, is_queue

_NAMES = """
args called_directly callbacks chain children chord clear compression correlation_id delivery_info errbacks eta expires
get group group_index headers hostname is_eager kwargs logfile loglevel properties reply_to shadow soft_time_limit
stamped_headers taskset time_limit update utc as_execution_options _children _get_custom_headers _protected
"""

UNUSED_HEADERS: dict[str, Any] = {
    **dict.fromkeys(_NAMES.split()),
    "replaced_task_nesting": 0,
    "retries": 0,
    "stamps": {},
    "timelimit": [None, None],
}
"""Names that Celery reads from headers and Headrace does not use, with their unset values.

Celery makes them attributes of the task's request. Others than these end the worker, or have it publish further tasks.
"""

TEXT_HEADERS = ("argsrepr", "id", "kwargsrepr", "lang", "origin", "parent_id", "root_id", "task")

FURTHER_TASKS = frozenset(["callbacks", "chain", "chord", "errbacks"])
"""Parts of a body's third element, in which Celery embeds what a worker publishes after the task; none may be set."""


class Entry(NamedTuple):
    """A queue entry as a child reads it that takes it itself."""

    task: str
    payload: str
    redelivered: bool
    queue: str
    tag: str
    """The delivery tag, which no other entry has."""
    traces: Any
    """The header `traces`, unchecked."""


def problem(entry: bytes) -> str | None:
    """Return why an entry is not a task of ours, or None if it is one."""
    found = _examined(entry)
    return found if isinstance(found, str) else None


def read(entry: bytes) -> Entry | None:
    """Read an entry; return None if it is not a task of ours."""
    found = _examined(entry)
    return None if isinstance(found, str) else found


def _examined(entry: bytes) -> Entry | str:
    """Return what an entry holds, or why it is not a task of ours."""
    try:
        message = orjson.loads(entry)
        headers, properties = message["headers"], message["properties"]
        # A worker records an entry that it holds: values that are nested too deep can be read, but not written again.
        orjson.dumps([{**message, "body": ""}])
        task = headers["task"]
        if task not in (PREDICT_TASK, RUN_JOBS_TASK, SHADOW_TASK):
            return "unknown task"
        if headers["id"] is None or not all(_is_ours(name, value) for name, value in headers.items()):
            return "wrong headers"
        if (message["content-type"], message["content-encoding"]) != ("application/json", "utf-8"):
            return "wrong content type"
        delivery, tag = properties["delivery_info"], properties["delivery_tag"]
        exchange, queue = delivery["exchange"], delivery["routing_key"]
        # An entry is given back by these two: others would have it written into any key that a worker may write.
        returns = exchange == "" and isinstance(queue, str) and is_queue(queue)
        if not returns or not isinstance(tag, str):
            return "wrong properties"
        args, kwargs, embed = orjson.loads(_body(message["body"], properties.get("body_encoding")))
        well_formed = len(args) == 1 and isinstance(args[0], str) and kwargs == {} and isinstance(embed, dict)
        if not well_formed or not embed.keys() <= FURTHER_TASKS or any(embed.values()):
            return "wrong arguments"
        return Entry(task, args[0], bool(delivery.get("redelivered")), queue, tag, headers.get("traces"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "malformed"


def _is_ours(name: str, value: Any) -> bool:
    """Return True if a header is unset, a text where it must be one, or unknown to Celery."""
    if name in TEXT_HEADERS:
        return value is None or isinstance(value, str)
    return value is None or value == UNUSED_HEADERS.get(name, value)


def _body(body: Any, encoding: Any) -> bytes:
    if not isinstance(body, str) or encoding not in (None, "base64"):
        raise TypeError("the body is not text, or in an encoding that kombu does not know")
    return base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
