import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from fakeredis import FakeRedis, FakeServer

from gateway.broker.celery_message import queue_entry
from shared.queue import keys
from shared.queue.celery_app import make_celery
from shared.queue.contract import Call, Message, PredictMessage, RunJobsMessage
from shared.queue.replies import REPLY_TTL_SECONDS
from shared.settings import CommonSettings
from worker.execution import chain as module
from worker.execution.chain import HELD_SECONDS, Batch, BatchChain, ChainBoard, ChainOptions

REPLY_TO = "headrace:replies:r"
HELD = keys.held("worker@here", 1)
APP = make_celery(CommonSettings())


def batch(number: int) -> PredictMessage:
    return PredictMessage(
        batch=number, reply_to=REPLY_TO, model="m", version="v", calls=[Call(1, 0.0, 1.0)], rows=[[1.0]]
    )


def entry(message: Message) -> bytes:
    return queue_entry(APP, message, "", 1.0, {"0": {"traceparent": "x"}})


class Child:
    """A pool child that answers each batch of its chain by its number."""

    def __init__(self, server: FakeServer, limit_seconds: float = 25.0) -> None:
        self.redis: Any = FakeRedis(server=server)
        self.board = ChainBoard(2)
        options = ChainOptions(HELD, ["interactive", "bulk"], limit_seconds, self.board, 1)
        self.chain = BatchChain(self.redis, options)
        self.before_reply: Callable[[int], object] = lambda _: None

    def publish(self, *messages: Message, queue: str = "interactive") -> None:
        for message in messages:
            self.redis.lpush(queue, entry(message))

    def batches(self) -> Iterator[Batch]:
        """Begin a chain by a batch 0 that Celery delivered."""
        return self.chain.run(Batch(batch(0), None), "interactive", "task 1")

    def run(self) -> list[int]:
        """Answer the batches of a chain, and return their numbers."""
        numbers = []
        for message, _ in self.batches():
            numbers.append(message.batch)
            self.before_reply(message.batch)
            self.chain.reply(message.reply_to, str(message.batch))
        return numbers

    def replies(self) -> list[int]:
        return [int(fields[b"reply"]) for _, fields in self.redis.xrange(REPLY_TO)]

    def held(self) -> list[bytes]:
        entries: list[bytes] = self.redis.lrange(HELD, 0, -1)
        return entries


@pytest.fixture
def child() -> Child:
    return Child(FakeServer())


def test_a_chain_takes_what_waits_in_the_order_of_its_arrival(child: Child) -> None:
    child.publish(batch(1), batch(2))

    assert child.run() == [0, 1, 2]
    assert child.replies() == [0, 1, 2]
    assert 0 < child.redis.ttl(REPLY_TO) <= REPLY_TTL_SECONDS
    assert child.held() == []


def test_a_batch_that_comes_soon_is_waited_for(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 60.0)
    batches = child.batches()
    next(batches)
    child.chain.reply(REPLY_TO, "0")
    child.publish(batch(1))

    assert next(batches).message.batch == 1
    assert 0 < child.redis.ttl(HELD) <= HELD_SECONDS


def test_a_taken_batch_has_its_traces(child: Child) -> None:
    child.publish(batch(1))
    batches = child.batches()
    next(batches)
    child.chain.reply(REPLY_TO, "0")
    assert next(batches).traces == {"0": {"traceparent": "x"}}


def test_a_batch_is_held_until_its_reply_is_written(child: Child) -> None:
    one = entry(batch(1))
    child.redis.lpush("interactive", one)
    held: list[tuple[int, list[bytes]]] = []
    child.before_reply = lambda number: held.append((number, child.held()))

    child.run()

    assert held == [(0, []), (1, [one])]
    assert child.redis.ttl(REPLY_TO) > 0


def test_other_queues_come_first(child: Child) -> None:
    child.publish(batch(1))
    child.publish(RunJobsMessage(jobs=["a"]), queue="bulk")

    assert child.run() == [0]
    assert child.redis.llen("interactive") == 1


@pytest.mark.parametrize("end", ["time", "stop", "no chains"])
def test_a_chain_ends(child: Child, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    if end == "no chains":
        child = Child(FakeServer(), limit_seconds=0.0)
    child.publish(batch(1), batch(2))

    def pass_time(number: int) -> None:
        if number == 1 and end == "time":
            clock.now += module.CHAIN_SECONDS
        if number == 1 and end == "stop":
            child.board.stop()

    child.before_reply = pass_time
    assert child.run() == ([0] if end == "no chains" else [0, 1])
    assert child.held() == []


def test_a_chain_is_short_beside_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    child = Child(FakeServer(), limit_seconds=2.0)
    child.publish(batch(1))

    def pass_time(_: int) -> None:
        clock.now += 0.11

    child.before_reply = pass_time
    assert child.run() == [0]


def test_a_reply_whose_confirmation_was_lost_lets_go_of_no_other_batch(child: Child) -> None:
    child.publish(batch(1), batch(2), batch(3))
    batches = child.batches()
    next(batches)
    child.chain.reply(REPLY_TO, "0")
    assert next(batches).message.batch == 1
    # The script ran, and runs again: the client has tried once more.
    child.chain.reply(REPLY_TO, "1")
    child.chain.reply(REPLY_TO, "1")

    assert next(batches).message.batch == 2
    assert len(child.held()) == 1
    assert child.redis.llen("interactive") == 1


def test_a_batch_that_a_broken_connection_has_moved_is_answered_too(child: Child) -> None:
    child.redis.lpush(HELD, entry(batch(7)))
    child.publish(batch(8))

    assert child.run() == [0, 7, 8]
    assert child.held() == []


def test_a_batch_without_a_reply_is_let_go(child: Child) -> None:
    child.publish(batch(1), batch(2))
    numbers = []
    for message, _ in child.batches():
        numbers.append(message.batch)
        if message.batch != 1:
            child.chain.reply(REPLY_TO, str(message.batch))

    assert numbers == [0, 1, 2]
    assert child.replies() == [0, 2]
    assert child.held() == []


def test_what_is_no_batch_goes_back_to_the_queue(child: Child) -> None:
    for strange in (b"no entry", entry(RunJobsMessage(jobs=["a"]))):
        child.redis.lpush("interactive", strange)
        assert child.run() == [0]
        assert child.redis.rpop("interactive") == strange
    assert child.held() == []


def test_a_batch_that_cannot_be_read_is_dropped(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    damaged = entry(batch(1)).replace(b"batch", b"botch")
    child.redis.lpush("interactive", damaged)
    child.publish(batch(2))
    with caplog.at_level(logging.ERROR):
        assert child.run() == [0, 2]
    assert "dropped a PredictMessage that can't be read" in caplog.text
    assert child.held() == []


def test_from_the_second_batch_on_a_reply_and_the_wait_for_the_next_batch_are_one_write(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    child.publish(batch(1), batch(2))
    batches = child.batches()
    next(batches)
    child.chain.reply(REPLY_TO, "0")
    assert next(batches).message.batch == 1
    monkeypatch.setattr(child.redis, "pipeline", lambda **_: pytest.fail("another write"))
    monkeypatch.setattr(child.redis, "evalsha", lambda *_: pytest.fail("another write"))
    child.chain.reply(REPLY_TO, "1")

    assert next(batches).message.batch == 2
    monkeypatch.undo()
    assert child.replies() == [0, 1]
    assert len(child.held()) == 1
    assert 0 < child.redis.ttl(HELD) <= HELD_SECONDS


def test_a_chain_goes_on_by_steps_after_other_queues_had_entries(child: Child) -> None:
    child.publish(batch(1), batch(2))

    def publish_jobs(number: int) -> None:
        if number == 1:
            child.publish(RunJobsMessage(jobs=["a"]), queue="bulk")

    child.before_reply = publish_jobs
    # Batch 2 was waited for before the child knew of the jobs.
    assert child.run() == [0, 1, 2]
    assert child.replies() == [0, 1, 2]
    assert child.held() == []


def test_a_step_on_a_broken_connection_is_taken_again(child: Child) -> None:
    child.publish(batch(1), batch(2))
    batches = child.batches()
    next(batches)
    child.chain.reply(REPLY_TO, "0")
    assert next(batches).message.batch == 1
    sent = []

    def send(_: Any) -> None:
        sent.append("tried")
        raise redis.ConnectionError("gone")

    child.chain._link.send_packed_command = send
    child.chain.reply(REPLY_TO, "1")

    assert sent == ["tried"]
    assert child.replies() == [0, 1]
    assert next(batches).message.batch == 2


def test_a_chain_that_was_broken_off_leaves_its_batch_to_the_next_one(child: Child) -> None:
    child.publish(batch(1), batch(2))
    batches = child.batches()
    for number in (0, 1):
        assert next(batches).message.batch == number
        child.chain.reply(REPLY_TO, str(number))
    del batches

    assert child.run() == [0, 2]
    assert child.held() == []


def test_a_foreign_value_in_the_place_of_held_batches_ends_a_chain(child: Child) -> None:
    child.redis.set(HELD, "foreign")
    child.publish(batch(1))

    assert child.run() == [0]
    assert child.replies() == [0]


def test_a_broker_that_is_lost_between_two_batches_ends_a_chain(
    child: Child, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(child.redis, "pipeline", fail)
    with caplog.at_level(logging.WARNING):
        assert child.run() == [0]
    assert "no further batch was taken: ConnectionError" in caplog.text


def test_a_large_reply_is_written_by_itself(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCRIPT_BYTES_MAX", 0)
    child.publish(batch(1))

    assert child.run() == [0, 1]
    assert child.replies() == [0, 1]
    assert 0 < child.redis.ttl(REPLY_TO) <= REPLY_TTL_SECONDS


def test_the_main_process_knows_that_the_first_batch_was_answered(child: Child) -> None:
    batches = child.batches()
    next(batches)
    assert not child.board.was_answered("task 1")
    child.chain.reply(REPLY_TO, "0")

    assert child.board.was_answered("task 1")
    assert not child.board.was_answered("task 2")
