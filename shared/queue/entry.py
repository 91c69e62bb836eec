"""Queue entries: the check that one is a task of ours, before anything else reads it."""

import base64
from typing import Any

import orjson

from shared.queue.contract import PREDICT_TASK, RUN_JOBS_TASK, SHADOW_TASK

UNUSED_HEADERS = {"compression": None, "eta": None, "expires": None, "stamped_headers": None, "timelimit": [None, None]}
"""Celery's headers for what Headrace does not use, as they are then. Other values can end the worker."""


def problem(entry: bytes) -> str | None:
    """Why an entry is no task of ours, or None if it is one."""
    try:
        message = orjson.loads(entry)
        headers, properties = message["headers"], message["properties"]
        if headers["task"] not in (PREDICT_TASK, RUN_JOBS_TASK, SHADOW_TASK):
            return "unknown task"
        if not isinstance(headers["id"], str) or not all(
            headers.get(name) in (None, unset) for name, unset in UNUSED_HEADERS.items()
        ):
            return "wrong headers"
        if (message["content-type"], message["content-encoding"]) != ("application/json", "utf-8"):
            return "wrong content type"
        came = properties["delivery_info"]
        if not all(
            isinstance(text, str) for text in (properties["delivery_tag"], came["exchange"], came["routing_key"])
        ):
            return "wrong properties"
        args, kwargs, embed = orjson.loads(_body(message["body"], properties.get("body_encoding")))
        well_formed = len(args) == 1 and isinstance(args[0], str) and kwargs == {} and isinstance(embed, dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "malformed"
    return None if well_formed else "wrong arguments"


def argument(entry: bytes) -> tuple[str, str, bool]:
    """The task of an entry, its argument, and whether it was redelivered; the task is "" if it is none of ours."""
    if problem(entry) is not None:
        return "", "", False
    message = orjson.loads(entry)
    properties = message["properties"]
    ((payload,), _, _) = orjson.loads(_body(message["body"], properties.get("body_encoding")))
    return message["headers"]["task"], payload, bool(properties["delivery_info"].get("redelivered"))


def _body(body: Any, encoding: Any) -> bytes:
    if not isinstance(body, str):
        raise TypeError("the body is no text")
    return base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
