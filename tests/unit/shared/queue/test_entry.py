"""The check of queue entries: entries of ours pass, and every other is refused with its reason."""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest
from celery.app.task import Context

from gateway.broker.celery_message import queue_entry
from shared.queue.celery_app import make_celery
from shared.queue.contract import Message
from shared.queue.entry import TEXT_HEADERS, UNUSED_HEADERS, problem
from shared.settings import CommonSettings
from tests.support.messages import EXAMPLES

APP = make_celery(CommonSettings())
MESSAGES = [EXAMPLES[0].model_copy(update={"probe": True}), *EXAMPLES[1:]]
GOOD: dict[str, Any] = orjson.loads(queue_entry(APP, MESSAGES[1], "", 1.0))

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    entry = copy.deepcopy(GOOD)
    change(entry)
    return json.dumps(entry).encode()


def in_base64(entry: dict[str, Any], arguments: bytes = GOOD["body"].encode()) -> None:
    """Encode the body as Celery's producer does."""
    entry["body"] = base64.b64encode(arguments).decode()
    entry["properties"]["body_encoding"] = "base64"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("group", ["", "iris"])
def test_what_the_gateway_writes_is_a_task(message: Message, group: str) -> None:
    assert problem(queue_entry(APP, message, group, 1.0)) is None


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


@pytest.mark.parametrize("depth", [200, 253, 254, 300, 900])
@pytest.mark.parametrize(
    "place",
    [
        lambda entry: entry,
        lambda entry: entry["headers"],
        lambda entry: entry["properties"],
        lambda entry: entry["properties"]["delivery_info"],
    ],
)
def test_an_entry_is_not_nested_deeper_than_its_record_can_be(place: Change, depth: int) -> None:
    deep = json.loads("[" * depth + "]" * depth)
    entry = changed(lambda entry: cast(Any, place(entry)).update(surprise=deep))

    if problem(entry) is None:
        assert depth < 254
        orjson.dumps([orjson.loads(entry), "", "bulk"])
    else:
        assert depth > 200


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
        # These would have the worker publish further tasks, write replies or logs, or end.
        ("chain", [{"task": "headrace.predict", "args": ["x"], "options": {"queue": "headrace:jobs:open"}}]),
        ("callbacks", [{}]),
        ("errbacks", ["x"]),
        ("chord", {"task": "x"}),
        ("group", "1"),
        ("shadow", {"a": 1}),
        ("retries", 5),
        ("reply_to", "headrace:jobs:open"),
        ("stamps", {"a": 1}),
        ("replaced_task_nesting", "x"),
        ("called_directly", True),
        ("get", 1),
        ("root_id", {"a": 1}),
        ("argsrepr", ["x"]),
    ],
)
def test_headers_that_are_not_ours_are_refused(header: str, value: Any) -> None:
    assert problem(changed(lambda entry: entry["headers"].update({header: value}))) == "wrong headers"


def test_no_header_sets_what_celery_makes_an_attribute_of_the_request() -> None:
    own = {name for name in dir(Context) if not name.startswith("__")}
    # The second is a static method of Celery's that nothing calls on a request.
    taken = own - set(TEXT_HEADERS) - {"ignore_result", "_filter_x_death_headers"}

    assert taken <= set(UNUSED_HEADERS)
    for name in taken:
        entry = copy.deepcopy(GOOD)
        entry["headers"][name] = "set"
        assert problem(orjson.dumps(entry)) == "wrong headers"


@pytest.mark.parametrize("embed", [b"{}", b'{"callbacks":null,"errbacks":[],"chain":null,"chord":null}'])
def test_a_task_that_nothing_follows_is_a_task(embed: bytes) -> None:
    assert problem(changed(lambda entry: in_base64(entry, b'[["x"],{},' + embed + b"]"))) is None


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
        (lambda entry: entry["properties"]["delivery_info"].update(exchange="celeryev"), "wrong properties"),
        (lambda entry: entry["properties"]["delivery_info"].update(routing_key="headrace:workers"), "wrong properties"),
        (lambda entry: entry["properties"]["delivery_info"].update(routing_key="interactively"), "wrong properties"),
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
        (b'[["x"],{},{"chain":[{"task":"headrace.run_jobs"}]}]', "wrong arguments"),
        (b'[["x"],{},{"callbacks":[{}],"errbacks":null}]', "wrong arguments"),
        (b'[["x"],{},{"errbacks":{"a":1}}]', "wrong arguments"),
        (b'[["x"],{},{"chord":"x"}]', "wrong arguments"),
        (b'[["x"],{},{"delivery_info":null}]', "wrong arguments"),
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


@pytest.mark.parametrize("encoding", ["latin-1", "", 5, ["base64"], "BASE64", False])
def test_a_body_as_text_has_no_encoding(encoding: Any) -> None:
    """kombu looks the encoding up in its table, and the worker ended with what it did not find there."""
    assert problem(changed(lambda entry: entry["properties"].update(body_encoding=encoding))) == "malformed"


@pytest.mark.parametrize("encoding", ["rot13", None, 5, ["base64"], "BASE64"])
def test_an_encoding_that_nobody_knows_leaves_no_json(encoding: Any) -> None:
    def change(entry: dict[str, Any]) -> None:
        in_base64(entry)
        entry["properties"]["body_encoding"] = encoding

    assert problem(changed(change)) == "malformed"
