"""Faulty messages: entries, results, clocks."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.queue import keys
from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure
from tests.chaos.ledger import Question, deed, question
from tests.support.control_messages import ASKER, HOSTILE, REPLY_EXCHANGE, asked
from tests.support.processes import wait_for
from tests.support.puppet import Act

REPLIES = f"{ASKER}.{REPLY_EXCHANGE}"
NESTED = b"[" * 100_000
HEADERS = b'"headers": {"task": "headrace.predict", "id": "1"}'
BAD_BASE64 = (
    b'{"body": "!", ' + HEADERS + b', "content-type": "application/json",'
    b' "properties": {"delivery_tag": "1", "delivery_info": {}, "body_encoding": "base64"}}'
)
UNKNOWN_TASK = (
    b'{"body": "", "headers": {"task": "os.system", "id": "1"}, "content-type": "application/json",'
    b' "properties": {"delivery_tag": "1", "delivery_info": {}}}'
)
PICKLE = (
    b'{"body": "gASVAA==", ' + HEADERS + b', "content-type": "application/x-python-serialize",'
    b' "properties": {"delivery_tag": "1", "delivery_info": {}, "body_encoding": "base64"}}'
)
FURTHER_TASK = b'{"task": "headrace.run_jobs", "args": ["x"], "options": {"queue": "headrace:jobs:open"}}'


def followed(headers: bytes, embed: bytes, exchange: bytes = b"") -> bytes:
    """Return an entry by which Celery would have a worker publish another task, or give the entry back elsewhere."""
    return (
        b'{"body": "[[\\"x\\"], {}, ' + embed.replace(b'"', b'\\"') + b']", "headers": {"task": "headrace.predict",'
        b' "id": "1"' + headers + b'}, "content-type": "application/json", "content-encoding": "utf-8",'
        b' "properties": {"delivery_tag": "1", "delivery_info": {"exchange": "' + exchange + b'",'
        b' "routing_key": "interactive"}}}'
    )


GARBAGE = [
    *(b"text", b"null", b"[]", b"{}", b"\xff\xfe", NESTED, BAD_BASE64, UNKNOWN_TASK, PICKLE),
    followed(b"", b'{"chain": [' + FURTHER_TASK + b"]}"),
    followed(b"", b'{"callbacks": [' + FURTHER_TASK + b"]}"),
    followed(b', "chain": [' + FURTHER_TASK + b"]", b"{}"),
    followed(b"", b"{}", b"celeryev"),
]


@pytest.mark.fault("garbage in the queues, 13 kinds", "each is a dead letter; no worker ends", within=1)
def test_garbage_in_the_queue(arena: Arena, measure: Measure) -> None:
    redis = arena.stack.redis
    pids = [worker.pid for worker in arena.stack.workers]
    redis.delete(keys.DEAD_LETTERS)
    pushed = time.monotonic()
    for lane in ("interactive", "bulk"):
        for entry in GARBAGE:
            redis.lpush(lane, entry)
    wait_for("dead letters", lambda: redis.llen(keys.DEAD_LETTERS) == 2 * len(GARBAGE))
    measure(time.monotonic() - pushed)
    arena.serves_again(pushed, 5)
    assert [worker.pid for worker in arena.stack.workers if worker.running] == pids


@pytest.mark.fault(
    "hostile messages of remote control, and 1,000 questions at once",
    "they are dropped; no worker ends or stops consuming",
    within=2,
)
def test_hostile_remote_control(arena: Arena, measure: Measure) -> None:
    redis = arena.stack.redis
    pids = [(worker.pid, worker.children()) for worker in arena.stack.workers]
    with arena.traffic():
        for message in (*HOSTILE.values(), *[asked()] * 1000):
            redis.publish("/0.celery.pidbox", message)
        published = time.monotonic()
        measure(arena.serves_again(published, 5))
        # Longer than a pause of remote control, after which the workers listen again.
        wait_for("an answer", lambda: redis.publish("/0.celery.pidbox", asked()) and redis.blpop([REPLIES], 1), 20)
    assert [(worker.pid, worker.children()) for worker in arena.stack.workers if worker.running] == pids


@pytest.mark.fault("an answer of NaN", "it fails as row_rejected; no process dies", within=2)
def test_an_answer_of_nan(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_fail = True
    children = [pid for worker in arena.stack.workers for pid in worker.children()]
    submitted = time.monotonic()
    job = arena.submit(deed(Act.ANSWER_NAN, 1))
    arena.wait_for_end(job, 10)
    measure(time.monotonic() - submitted)
    assert arena.stack.job(job)["error"]["code"] == "row_rejected"
    assert children == [pid for worker in arena.stack.workers for pid in worker.children()]


@pytest.mark.fault("an answer larger than RESULT_MAX_BYTES", "it fails as result_too_large; no process dies", within=5)
def test_an_answer_that_is_too_large(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_fail = True
    asked = Question([{"value": 1, "act": Act.ANSWER}] * 8000, ["high"] * 8000)
    submitted = time.monotonic()
    job = arena.submit(asked)
    arena.wait_for_end(job, 10)
    measure(time.monotonic() - submitted)
    assert arena.stack.job(job)["error"]["code"] == "result_too_large"
    refused = arena.stack.predict(asked.rows[:1000])
    assert refused.status_code == 200, "what fits is answered"


@pytest.mark.whole_chaos
@pytest.mark.fault(
    "clocks of gateway and a worker are an hour off", "deadlines, leases and redelivery are unaffected", within=5
)
def test_clocks_that_differ(arena: Arena, measure: Measure) -> None:
    def run(numbers: range) -> None:
        # At most three: more in one batch would reach the time limit together, and then again.
        for number in numbers:
            arena.wait_for_end(arena.submit(question(number, sleep_seconds=0.6)), 30)

    with arena.shifted_clocks(gateway=-3600, worker=3600):
        measure(arena.serves_again(time.monotonic(), 10))
        # Longer than 5 s, the interval at which workers look for abandoned entries. The other worker always has one in
        # hand, and a slot is free in which the entry could run again.
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(run, (range(12), range(12, 24), range(24, 36))))
        assert arena.ledger.repeats == 0, "jobs ran again while they ran"
