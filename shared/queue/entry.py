"""The check that a queue entry is a task of ours, made before anything else reads the entry."""

import base64
from typing import Any

import orjson

from shared.queue.contract import PREDICT_TASK, RUN_JOBS_TASK, SHADOW_TASK

UNUSED_HEADERS = {"compression": None, "eta": None, "expires": None, "stamped_headers": None, "timelimit": [None, None]}
"""Celery's headers for features that Headrace does not use, with their unset values; others can end the worker."""


def problem(entry: bytes) -> str | None:
    """Return why an entry is not a task of ours, or None if it is one."""
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
        delivery = properties["delivery_info"]
        if not all(
            isinstance(text, str)
            for text in (properties["delivery_tag"], delivery["exchange"], delivery["routing_key"])
        ):
            return "wrong properties"
        args, kwargs, embed = orjson.loads(_body(message["body"], properties.get("body_encoding")))
        well_formed = len(args) == 1 and isinstance(args[0], str) and kwargs == {} and isinstance(embed, dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "malformed"
    return None if well_formed else "wrong arguments"


def argument(entry: bytes) -> tuple[str, str, bool]:
    """Return an entry's task name, argument and redelivered flag; the name is "" if the entry is not a task of ours."""
    if problem(entry) is not None:
        return "", "", False
    message = orjson.loads(entry)
    properties = message["properties"]
    ((payload,), _, _) = orjson.loads(_body(message["body"], properties.get("body_encoding")))
    return message["headers"]["task"], payload, bool(properties["delivery_info"].get("redelivered"))


def _body(body: Any, encoding: Any) -> bytes:
    if not isinstance(body, str):
        raise TypeError("the body is not text")
    return base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
