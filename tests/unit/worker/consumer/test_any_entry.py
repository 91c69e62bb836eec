"""Any bytes in a queue are a task of ours that Celery can take, or become a dead letter: none end a worker."""

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson
import pytest
from celery.app.trace import trace_task_ret
from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default as strategy_of
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import Channel
from kombu.transport.virtual import Message as Delivered

from gateway.broker.celery_message import queue_entry
from shared.errors import PredictionError
from shared.queue.celery_app import make_celery
from shared.queue.contract import Message, PredictMessage, Row, RunJobsMessage, ShadowMessage
from shared.queue.packed_rows import packed
from shared.settings import CommonSettings
from tests.support.any_bytes import MESSAGES, check_entry
from tests.support.fuzzing import changed, fuzzed
from tests.support.messages import EXAMPLES
from worker.execution.batch_runner import BatchRunner
from worker.execution.tasks import register_tasks
from worker.model.rows import unpack_rows


class Ran:
    """A batch runner that only records its messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.chain = SimpleNamespace(run=lambda first, *_: [first])

    def predict(self, message: PredictMessage, traces: object) -> None:
        self.messages.append(message)

    def fail_calls(self, message: PredictMessage, error: PredictionError) -> None:
        """Fail nothing: these batches succeed."""

    def run_jobs(self, message: RunJobsMessage, redelivered: bool, queue: str) -> None:
        self.messages.append(message)

    def shadow(self, message: ShadowMessage, queue: str) -> None:
        self.messages.append(message)


RAN = Ran()
APP = make_celery(CommonSettings())
register_tasks(APP, lambda: cast(BatchRunner, RAN))
ENTRIES = [orjson.loads(queue_entry(APP, message, "", 1.0, {"0": {"traceparent": "x"}})) for message in EXAMPLES]


def consume(entry: bytes) -> None:
    """Do what Celery does with an entry, from the queue to the task in a child; raise what would end the worker."""
    content = orjson.loads(entry)
    message = Delivered(content, channel=SimpleNamespace(decode_body=Channel.decode_body.__get__(Channel)))
    task = APP.tasks[content["headers"]["task"]]

    def run(trace: Any, args: Any, callback: Any, **_: Any) -> None:
        callback(trace_task_ret(*args, app=APP))

    pool = SimpleNamespace(apply_async=run)
    events: list[str] = []
    consumer = SimpleNamespace(
        hostname="h",
        connection_errors=(),
        event_dispatcher=SimpleNamespace(enabled=True, send=lambda *_, **fields: events.append(json.dumps(fields))),
        timer=SimpleNamespace(call_at=None),
        apply_eta_task=None,
        disable_rate_limits=True,
        task_buckets={},
        on_task_request=lambda request: request.execute_using_pool(pool),
        _limit_task=None,
        _limit_post_eta=None,
        controller=SimpleNamespace(state=SimpleNamespace(revoked=set())),
        pool=pool,
    )
    handle = strategy_of(task, APP, consumer)
    try:
        handle(message, None, lambda *_: None, lambda *_: None, [])
    except InvalidTaskError:
        # Celery refuses it, and goes on.
        return


@pytest.mark.parametrize("sent", EXAMPLES, ids=lambda sent: type(sent).__name__)
def test_what_the_gateway_writes_runs(sent: Message) -> None:
    RAN.messages.clear()
    consume(queue_entry(APP, sent, "", 1.0))

    assert RAN.messages == [sent]


@fuzzed(200)
@given(
    st.binary(max_size=300) | st.sampled_from(ENTRIES).flatmap(changed).map(lambda entry: json.dumps(entry).encode())
)
def test_an_entry_is_a_task_that_celery_takes_or_a_dead_letter(entry: bytes) -> None:
    if check_entry(entry):
        consume(entry)


@fuzzed(60)
@given(st.sampled_from([*MESSAGES]), st.text(max_size=50) | changed(json.loads(EXAMPLES[0].to_json())).map(json.dumps))
def test_a_task_whose_text_is_no_message_is_dropped(task: str, payload: str) -> None:
    body = orjson.dumps([[payload], {}, {}]).decode()
    entry = {**ENTRIES[0], "headers": {**ENTRIES[0]["headers"], "task": task}, "body": body}
    assert check_entry(orjson.dumps(entry))
    RAN.messages.clear()
    consume(orjson.dumps(entry))

    try:
        assert [MESSAGES[task].from_json(payload)] == RAN.messages
    except ValueError:
        assert RAN.messages == []


@fuzzed(100)
@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.floats(allow_nan=False), min_size=n, max_size=n), min_size=1)
    )
)
def test_packed_rows_are_unpacked_as_they_were(rows: list[Row]) -> None:
    unpacked_rows = unpack_rows(packed(rows), [len(rows)])

    assert isinstance(unpacked_rows, np.ndarray)
    assert repr(unpacked_rows.tolist()) == repr(rows)


@fuzzed(100)
@given(
    st.text(max_size=30) | st.binary(max_size=40).map(lambda b: packed([[*b]])[:-2]),
    st.integers(-2, 5) | st.just(10**12),
)
def test_what_are_no_packed_rows_is_a_value_error(text: str, n_rows: int) -> None:
    try:
        rows = unpack_rows(text, [n_rows])
    except ValueError:
        return
    assert len(rows) == n_rows >= 1
    assert isinstance(rows, np.ndarray)
    assert rows.size > 0
