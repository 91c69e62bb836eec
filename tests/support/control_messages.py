"""Messages for a worker's remote control: celery-exporter's questions as kombu writes them, and a hostile corpus."""

import base64
import json
import uuid
import zlib
from typing import Any

from celery.worker.control import Panel

ANSWERED = ("stats", "active_queues")
REPLY_EXCHANGE = "reply.celery.pidbox"
ASKER = str(uuid.uuid4())

ARGUMENTS: dict[str, dict[str, Any]] = {
    "add_consumer": {"queue": "headrace:jobs:open"},
    "autoscale": {"max": 0, "min": 0},
    "cancel_consumer": {"queue": "interactive"},
    "hello": {"from_node": "x", "revoked": {"1": 1.0}},
    "memdump": {"samples": 10},
    "pool_shrink": {"n": 2},
    "query_task": {"ids": ["1"]},
    "rate_limit": {"task_name": "headrace.predict", "rate_limit": "1/h"},
    "revoke": {"task_id": ["1"], "terminate": True, "signal": "KILL"},
    "terminate": {"task_id": ["1"], "signal": "KILL"},
    "time_limit": {"task_name": "headrace.predict", "hard": 0.001, "soft": 0.001},
}


def asked(method: Any = "stats", arguments: Any = None, **changes: Any) -> bytes:
    """Return a command as kombu broadcasts it; `changes` are of its body."""
    body = {
        "method": method,
        "arguments": arguments or {},
        "destination": None,
        "pattern": None,
        "matcher": None,
        "ticket": str(uuid.uuid4()),
        "reply_to": {"exchange": REPLY_EXCHANGE, "routing_key": ASKER},
        **changes,
    }
    return enveloped(json.dumps(body).encode())


def enveloped(body: bytes, **headers: Any) -> bytes:
    """Return a body inside kombu's envelope."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": 0, **headers},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()


HOSTILE: dict[str, bytes] = {
    **{name: asked(name, ARGUMENTS.get(name)) for name in sorted(Panel.data) if name not in ANSWERED},
    "an unknown command": asked("os.system", {"command": "true"}),
    "a command that is no text": asked({"stats": 1}),
    "arguments of another command": asked("stats", {"consumer": 1, "state": {}}),
    "arguments that are no object": asked("stats", [1]),
    "a reply into a lane": asked(reply_to={"exchange": "", "routing_key": "interactive"}),
    "a reply into a key": asked(reply_to={"exchange": "", "routing_key": "headrace:reconciler"}),
    "a reply by a binding": asked(reply_to={"exchange": "forged", "routing_key": ASKER}),
    "a reply to a key of another form": asked(reply_to={"exchange": REPLY_EXCHANGE, "routing_key": "headrace:workers"}),
    "a reply with more": asked(reply_to={"exchange": REPLY_EXCHANGE, "routing_key": ASKER, "x": 1}),
    "a reply to nobody": asked(reply_to=None),
    "a reply to a text": asked(reply_to="interactive"),
    "a ticket that is no text": asked(ticket={"a": 1}),
    "a long ticket": asked(ticket="1" * 5000),
    "a pattern that takes long to match": asked(pattern="(a+)+$", matcher="pcre"),
    "a destination": asked(destination={"worker": 1}),
    "more than a question": asked(surprise=1),
    "a body that is null": enveloped(b"null"),
    "a body that is a list": enveloped(b"[]"),
    "a body that is a text": enveloped(b'"stats"'),
    "a body that is no JSON": enveloped(b"\x80\x05."),
    "a body that is deeply nested": enveloped(b"[" * 5000),
    "a body that grows": enveloped(zlib.compress(bytes(1_000_000)), compression="application/x-gzip"),
    "a body that is a number": b'{"body": 5, "headers": {}, "properties": {}}',
    "a body that is not base64": b'{"body": "!", "headers": {}, "properties": {"body_encoding": "base64"}}',
    "properties that are a list": b'{"body": "{}", "headers": {}, "properties": []}',
    "no properties": b'{"body": "{}"}',
    "no JSON": b"text",
    "no UTF-8": b"\xff\xfe",
    "nothing": b"",
    "null": b"null",
    "a number": b"5",
    "a list": b"[]",
    "a deeply nested list": b"[" * 5000,
    "a message that is too long": b"x" * 2_000_000,
}
"""Messages that a worker must drop, by what is wrong with them; among them every other command of Celery."""
