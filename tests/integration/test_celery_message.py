"""The queue entries that the gateway writes, compared with those of a real Celery producer on a real broker."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from celery import Celery

from gateway.broker.celery_message import lane_of, queue_entry
from shared.queue.celery_app import make_celery
from shared.queue.contract import (
    PREDICT_TASK,
    RUN_JOBS_TASK,
    SHADOW_TASK,
    Call,
    Message,
    PredictMessage,
    RunJobsMessage,
    ShadowMessage,
)
from shared.queue.entry import problem
from shared.settings import CommonSettings
from tests.support.processes import Process, free_port, wait_for

TASK_OF: dict[type[Message], str] = {
    PredictMessage: PREDICT_TASK,
    RunJobsMessage: RUN_JOBS_TASK,
    ShadowMessage: SHADOW_TASK,
}
MESSAGES = [
    PredictMessage(
        batch=7,
        reply_to="headrace:replies:g",
        model="iris",
        version="v1",
        calls=[Call(1, 1_795_000_000.25, 1_795_000_005.25), Call(1, 0.1, 0.2)],
        rows=[[5.1, 3.5, -0.0, 1e-300], ["Straße", 2, True, None]],
        probe=True,
    ),
    RunJobsMessage(jobs=["a", "b"]),
    ShadowMessage(model="iris", version="v2", primary="v1", rows=[[5.1, None]], predictions=["setosa"]),
]

# Fields that are generated for each entry, or name the process that wrote it.
OWN = {"id", "root_id", "origin", "correlation_id", "reply_to", "delivery_tag"}


@pytest.fixture(scope="module")
def broker_port(broker_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("broker")
    port = free_port()
    process = Process("broker", [broker_program, "--port", str(port), "--save", "", "--dir", str(folder)], {}, folder)
    process.start()
    try:
        with redis.Redis(port=port) as client:
            wait_for("the broker answers", lambda: _answers(client))
        yield port
    finally:
        process.stop()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def app(broker_port: int) -> Iterator[Celery]:
    app = make_celery(CommonSettings(redis_url=f"redis://127.0.0.1:{broker_port}/0"))
    yield app
    app.close()


@pytest.fixture(params=MESSAGES, ids=lambda message: type(message).__name__)
def message(request: pytest.FixtureRequest) -> Message:
    message: Message = request.param
    return message


@pytest.fixture
def celerys(app: Celery, broker_port: int, message: Message) -> dict[str, Any]:
    """Return the entry that Celery's producer puts into the lane."""
    app.send_task(TASK_OF[type(message)], args=[message.to_json()], ignore_result=True)
    with redis.Redis(port=broker_port) as client:
        raw = client.rpop(lane_of(message).value)
        assert isinstance(raw, bytes), "it went to another list"
        assert client.llen(lane_of(message).value) == 0
    entry: dict[str, Any] = orjson.loads(raw)
    return entry


@pytest.fixture
def ours(app: Celery, message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = orjson.loads(queue_entry(app, message, "", 1_795_000_000.5))
    return entry


def flat(part: Any, path: str = "") -> dict[str, Any]:
    """Return every value by its path; an empty object counts as a value."""
    if isinstance(part, dict) and part:
        return {name: value for key in part for name, value in flat(part[key], f"{path}/{key}").items()}
    return {path: part}


def arguments(entry: dict[str, Any]) -> Any:
    """Return the arguments of the task, and the callbacks that it embeds."""
    in_base64 = entry["properties"].get("body_encoding") == "base64"
    return orjson.loads(base64.b64decode(entry["body"]) if in_base64 else entry["body"])


def comparable(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with its arguments decoded, and of the generated fields only the types."""
    decoded = {**entry, "body": arguments(entry)}
    return {
        path: type(value).__name__ if path.rsplit("/", 1)[-1] in OWN else value for path, value in flat(decoded).items()
    }


def test_the_same_keys_and_values_as_a_celery_producers(celerys: dict[str, Any], ours: dict[str, Any]) -> None:
    expected, written = comparable(celerys), comparable(ours)
    # Fields of ours, for the reconciler and for the age of the queue.
    assert written.pop("/headers/published_at") == 1_795_000_000.5

    # Left out, because Celery would show the rows to everyone who watches its events.
    for name in ("argsrepr", "kwargsrepr"):
        assert expected.pop(f"/headers/{name}") != ""
        assert written.pop(f"/headers/{name}") == ""
    # kombu reads both forms.
    assert expected.pop("/properties/body_encoding") == "base64"
    # No result is sent back, so the entry names no reply queue.
    assert expected.pop("/properties/reply_to") == "str"
    assert ours["properties"].get("reply_to") in (None, "")
    written.pop("/properties/reply_to", None)

    assert written == expected


def test_the_ids_within_an_entry_agree_as_in_celerys(celerys: dict[str, Any], ours: dict[str, Any]) -> None:
    for entry in (celerys, ours):
        headers, properties = entry["headers"], entry["properties"]
        assert headers["id"] == headers["root_id"] == properties["correlation_id"]
        assert len(headers["id"]) == len(properties["delivery_tag"]) == 36


def test_the_entry_for_pinned_workers_names_their_queue(app: Celery, message: Message) -> None:
    entry = orjson.loads(queue_entry(app, message, "iris", 1.0))

    assert entry["properties"]["delivery_info"]["routing_key"] == f"{lane_of(message).value}.iris"
    common = orjson.loads(queue_entry(app, message, "", 1.0))
    assert set(flat(entry)) == set(flat(common)), "and is like any other otherwise"


def test_two_entries_of_one_message_have_their_own_ids(app: Celery, message: Message) -> None:
    one, other = (orjson.loads(queue_entry(app, message, "", 1.0)) for _ in range(2))

    assert one["headers"]["id"] != other["headers"]["id"]
    assert one["properties"]["delivery_tag"] != other["properties"]["delivery_tag"]


def test_traces_are_a_header_of_their_own_if_there_are_any(app: Celery, message: Message) -> None:
    traces = {"3": {"traceparent": "00-1-2-01"}}
    without = orjson.loads(queue_entry(app, message, "", 1.0))
    entry = orjson.loads(queue_entry(app, message, "", 1.0, traces))

    assert entry["headers"].pop("traces") == traces
    assert comparable(entry) == comparable(without)
    assert problem(queue_entry(app, message, "", 1.0, traces)) is None


def test_the_argument_is_the_message(celerys: dict[str, Any], ours: dict[str, Any], message: Message) -> None:
    for entry in (celerys, ours):
        (payload,), kwargs, _ = arguments(entry)
        assert type(message).model_validate_json(payload) == message
        assert kwargs == {}


def test_the_worker_takes_both(celerys: dict[str, Any], ours: dict[str, Any]) -> None:
    assert problem(orjson.dumps(celerys)) is None
    assert problem(orjson.dumps(ours)) is None
