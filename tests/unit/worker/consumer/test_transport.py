import base64
import copy
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import kombu
import orjson
import pytest
import redis
from celery.worker import state
from kombu.transport import redis as kombu_redis
from kombu.transport.redis import Empty

from gateway.broker.celery_message import envelope
from shared.queue.celery_app import make_celery
from shared.queue.contract import Call, Message, PredictMessage, RunJobsMessage, ShadowMessage
from shared.queue.entry import problem
from shared.settings import CommonSettings
from worker.consumer.lanes import LaneCycle
from worker.consumer.transport import CONTROL_READ_SECONDS, Amqp, Channel
from worker.consumer.watchdog import Pulse

APP = make_celery(CommonSettings())
MESSAGES = [
    PredictMessage(
        batch=1, reply_to="r", model="m", version="v", calls=[Call(1, 0.0, 1.0)], rows=[[1.0, "Straße"]], probe=True
    ),
    RunJobsMessage(jobs=["a", "b"]),
    ShadowMessage(model="m", version="v2", primary="v1", rows=[[1.0, None]], predictions=["Straße"]),
]
GOOD: dict[str, Any] = orjson.loads(envelope(APP, MESSAGES[1], "", 1.0))

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    entry = copy.deepcopy(GOOD)
    change(entry)
    return json.dumps(entry).encode()


def in_base64(entry: dict[str, Any], arguments: bytes = GOOD["body"].encode()) -> None:
    """With its body as Celery's producer writes it."""
    entry["body"] = base64.b64encode(arguments).decode()
    entry["properties"]["body_encoding"] = "base64"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("pool", ["", "iris"])
def test_what_the_gateway_writes_is_a_task(message: Message, pool: str) -> None:
    assert problem(envelope(APP, message, pool, 1.0)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry["properties"]["delivery_info"].update(redelivered=True),
        lambda entry: entry["headers"].pop("timelimit"),
        lambda entry: entry["headers"].pop("eta"),
        lambda entry: entry["headers"].update(timelimit=None, surprise=1),
        lambda entry: entry["properties"].pop("priority"),
        lambda entry: entry["properties"].update(surprise=1),
        lambda entry: entry.update(surprise=1),
        in_base64,
    ],
)
def test_what_kombu_changes_when_it_restores_a_message_is_still_a_task(change: Change) -> None:
    assert problem(changed(change)) is None


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"text",
        b"\xff\xfe",
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"headers":' * 1000 + b"1" + b"}" * 1000,
        orjson.dumps(GOOD)[:-1],
        orjson.dumps(GOOD) + b"x",
        orjson.dumps([GOOD]),
        orjson.dumps(orjson.dumps(GOOD).decode()),
    ],
)
def test_what_is_no_entry_at_all_is_malformed(entry: bytes) -> None:
    assert problem(entry) == "malformed"


@pytest.mark.parametrize("part", ["headers", "properties", "body", "content-type", "content-encoding"])
@pytest.mark.parametrize("value", [None, 5, [], [1], "text", {}, True, 1.5])
def test_no_part_may_be_something_else(part: str, value: Any) -> None:
    assert problem(changed(lambda entry: entry.update({part: value}))) is not None


@pytest.mark.parametrize("part", ["headers", "properties", "body", "content-type", "content-encoding"])
def test_no_part_may_be_missing(part: str) -> None:
    assert problem(changed(lambda entry: entry.pop(part))) == "malformed"


@pytest.mark.parametrize("body", [None, 5, [], {}, 1.5])
def test_a_body_without_an_encoding_must_be_text(body: Any) -> None:
    assert problem(changed(lambda entry: entry.update(body=body))) == "malformed"


@pytest.mark.parametrize(
    "name", ["os.system", "", "headrace.predict ", "HEADRACE.PREDICT", None, 5, ["headrace.predict"]]
)
def test_a_task_of_another_name_is_unknown(name: Any) -> None:
    assert problem(changed(lambda entry: entry["headers"].update(task=name))) == "unknown task"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("id", None),
        ("id", 5),
        ("id", ["1"]),
        # Each of these was seen to end a worker, or to be held by it for ever.
        ("timelimit", "x"),
        ("timelimit", 5),
        ("timelimit", ["x", "y"]),
        ("timelimit", [1, 2]),
        ("stamped_headers", 5),
        ("stamped_headers", ["x"]),
        ("compression", "zzz"),
        ("eta", "9999-12-31T23:59:59"),
        ("expires", "x"),
    ],
)
def test_headers_that_are_not_ours_are_refused(header: str, value: Any) -> None:
    assert problem(changed(lambda entry: entry["headers"].update({header: value}))) == "wrong headers"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "application/x-python-serialize"),
        ("content-type", "application/json; charset=utf-8"),
        ("content-encoding", "utf-16"),
        ("content-encoding", "binary"),
        ("content-encoding", "foo"),
    ],
)
def test_only_json_in_utf_8_is_taken(name: str, value: str) -> None:
    assert problem(changed(lambda entry: entry.update({name: value}))) == "wrong content type"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda entry: entry["properties"].update(delivery_tag=None), "wrong properties"),
        (lambda entry: entry["properties"].update(delivery_tag=5), "wrong properties"),
        (lambda entry: entry["properties"]["delivery_info"].update(routing_key=5), "wrong properties"),
        (lambda entry: entry["properties"]["delivery_info"].update(exchange=["x"]), "wrong properties"),
        (lambda entry: entry["properties"]["delivery_info"].pop("routing_key"), "malformed"),
        (lambda entry: entry["properties"].update(delivery_info=None), "malformed"),
        (lambda entry: entry["properties"].pop("delivery_tag"), "malformed"),
    ],
)
def test_a_message_must_be_such_that_it_can_be_given_back(change: Change, why: str) -> None:
    assert problem(changed(change)) == why


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (b"", "malformed"),
        (b"null", "malformed"),
        (b"5", "malformed"),
        (b"{}", "malformed"),
        (b"[]", "malformed"),
        (b'[["x"],{}]', "malformed"),
        (b'[["x"],{},{},{}]', "malformed"),
        (b"[5,{},{}]", "malformed"),
        (b"\xff", "malformed"),
        (b"[" * 100_000, "malformed"),
        (b"[[],{},{}]", "wrong arguments"),
        (b'[["x","y"],{},{}]', "wrong arguments"),
        (b"[[5],{},{}]", "wrong arguments"),
        (b"[[null],{},{}]", "wrong arguments"),
        (b'[["x"],{"y":1},{}]', "wrong arguments"),
        (b'[["x"],null,{}]', "wrong arguments"),
        (b'[["x"],{},null]', "wrong arguments"),
        (b'[["x"],{},[]]', "wrong arguments"),
        (b'[["x"],[],{}]', "wrong arguments"),
    ],
)
def test_a_task_has_one_text_as_its_argument(arguments: bytes, why: str) -> None:
    assert problem(changed(lambda entry: in_base64(entry, arguments))) == why


IN_BASE64 = base64.b64encode(GOOD["body"].encode()).decode()


@pytest.mark.parametrize(
    "body", ["!", "gASVAA", "ü", "gASVAA==", IN_BASE64 + "!", IN_BASE64[:8] + "\n" + IN_BASE64[8:]]
)
def test_a_body_that_is_no_base64_or_no_json_is_malformed(body: str) -> None:
    def change(entry: dict[str, Any]) -> None:
        entry["properties"]["body_encoding"] = "base64"
        entry["body"] = body

    assert problem(changed(change)) == "malformed"


@pytest.mark.parametrize("body", [GOOD["body"] + "!", GOOD["body"][:-1], "ü", ""])
def test_a_text_that_is_no_json_is_malformed(body: str) -> None:
    assert problem(changed(lambda entry: entry.update(body=body))) == "malformed"


@pytest.mark.parametrize("encoding", ["rot13", None, 5, ["base64"], "BASE64"])
def test_an_encoding_that_nobody_knows_leaves_no_json(encoding: Any) -> None:
    def change(entry: dict[str, Any]) -> None:
        in_base64(entry)
        entry["properties"]["body_encoding"] = encoding

    assert problem(changed(change)) == "malformed"


def test_a_lost_broker_is_looked_for_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(kombu.Connection, "ensure_connection", lambda self, *args, **options: asked.append(options))

    Amqp.Connection("redis://").ensure_connection(print, None, interval_start=3)

    assert asked == [{"interval_start": 3, "interval_step": 0.2, "interval_max": 1.0}]


def test_nothing_waits_for_ever_for_remote_control() -> None:
    asked: list[Any] = []
    pubsub = SimpleNamespace(parse_response=lambda **options: asked.append(options))
    channel = Channel.__new__(Channel)
    channel._create_client = lambda asynchronous: SimpleNamespace(pubsub=lambda: pubsub)

    # As kombu calls it; nothing to read is nothing, and no error.
    assert channel._receive_one(channel.subclient) is None

    assert asked == [{"block": False, "timeout": CONTROL_READ_SECONDS}]
    assert channel.__dict__["subclient"] is pubsub, "kombu looks there whether there is one"


def stopping_channel(monkeypatch: pytest.MonkeyPatch, queues: list[str]) -> tuple[Channel, list[str]]:
    """A channel with a BRPOP that waits, and what it does about it."""
    done: list[str] = []
    channel = Channel.__new__(Channel)
    channel._in_poll, channel._active_queues, channel.active_fanout_queues = object(), queues, set()

    def read(**_: Any) -> bool:
        done.append("read")
        channel._in_poll = None
        raise Empty

    monkeypatch.setattr(kombu_redis.Channel, "_basic_cancel", lambda self, tag: queues.remove(tag))
    monkeypatch.setattr(channel, "_unblock", lambda: done.append("unblock"))
    monkeypatch.setattr(channel, "_brpop_read", read)
    return channel, done


def test_a_worker_that_stops_takes_back_what_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis would give it a task that nobody looks at until its children have ended."""
    channel, done = stopping_channel(monkeypatch, ["interactive", "bulk"])
    monkeypatch.setattr(state, "should_stop", 0)

    channel._basic_cancel("bulk")
    assert done == [], "of the other queue it still takes tasks"
    channel._basic_cancel("interactive")
    assert done == ["unblock", "read"]


@pytest.mark.parametrize("waits", [False, True])
def test_one_that_only_lost_its_connection_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    channel, done = stopping_channel(monkeypatch, ["interactive"])
    if not waits:
        monkeypatch.setattr(state, "should_stop", 0)
        channel._in_poll = None

    channel._basic_cancel("interactive")
    assert done == []


def test_every_answered_poll_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel.__new__(Channel)
    connection = SimpleNamespace(disconnect=lambda: None)
    answers: list[Any] = [None, redis.ConnectionError()]

    def answer(*_: Any) -> Any:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    channel.pulse, channel.connection_errors = Pulse(1), (redis.ConnectionError,)
    channel._queue_cycle = LaneCycle(1)
    channel._queue_cycle.update(["interactive"])
    channel.__dict__["client"] = SimpleNamespace(connection=connection, parse_response=answer)
    monkeypatch.setattr(channel, "_flush_brpop_reauth", lambda: None)

    with pytest.raises(Empty):
        channel._brpop_read()
    assert channel.pulse.beats == 1, "nothing for a second is an answer too"
    with pytest.raises(redis.ConnectionError):
        channel._brpop_read()
    assert channel.pulse.beats == 1
