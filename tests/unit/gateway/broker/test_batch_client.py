import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from fakeredis import FakeServer

from gateway.broker import batch_client as module
from gateway.broker.batch_client import BatchClient
from shared.queue.broker_clock import BrokerClock
from shared.queue.celery_app import make_celery
from shared.queue.contract import BatchReply, Call, PredictMessage, RunJobsMessage, ShadowMessage
from shared.settings import CommonSettings
from tests.support.coroutines import run
from tests.unit.gateway.fakes import connected

APP = make_celery(CommonSettings())


@pytest.fixture(autouse=True)
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BLOCK_MILLISECONDS", 20)


@asynccontextmanager
async def opened(server: FakeServer) -> AsyncIterator[tuple[BatchClient, Any]]:
    """Open a batch client and a plain client of the same Redis."""
    async with connected(server) as client, connected(server) as reader:
        yield BatchClient(client, client, reader, APP, BrokerClock()), client


def reply(batch: int) -> str:
    return BatchReply(batch=batch, started_at=1.0, compute_seconds=0.0, results=[]).to_json()


async def put(client: Any, batch_client: BatchClient, *payloads: str | bytes) -> None:
    """Reply as a worker does."""
    for payload in payloads:
        await client.xadd(batch_client.reply_to, {"reply": payload})


@pytest.mark.parametrize("worker_group", ["", "m"])
def test_batches_go_to_the_interactive_lane_and_everything_else_to_the_bulk_lane(
    broker: FakeServer, worker_group: str
) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            predict = PredictMessage(
                batch=1, reply_to="headrace:replies:r", model="m", version="v", calls=[Call(1, 0.0, 1.0)], rows=[[1.0]]
            )
            shadow = ShadowMessage(model="m", version="w", primary="v", rows=[[1.0]], predictions=[2.0])
            for message, lane in ((predict, "interactive"), (RunJobsMessage(jobs=["a"]), "bulk"), (shadow, "bulk")):
                await batch_client.publish(message, worker_group)
                queue = f"{lane}.{worker_group}" if worker_group else lane
                entry = await client.rpop(queue)
                assert json.loads(entry)["properties"]["delivery_info"]["routing_key"] == queue
                assert await client.keys() == []
                [[payload], _, _] = json.loads(json.loads(entry)["body"])
                assert payload == message.to_json()

    run(scenario())


def test_messages_are_taken_in_the_order_in_which_they_were_published(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            for name in "abc":
                await batch_client.publish(RunJobsMessage(jobs=[name]), "")
            taken = [json.loads(await client.rpop("bulk")) for _ in range(3)]
            assert [json.loads(entry["body"])[0][0][-4:-2] for entry in taken] == ['a"', 'b"', 'c"']

    run(scenario())


def test_a_broker_that_does_not_take_a_message_is_an_error(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, _):
            broker.connected = False
            with pytest.raises(redis.ConnectionError):
                await batch_client.publish(RunJobsMessage(jobs=["a"]), "")

    run(scenario())


def test_a_reply_goes_to_the_one_who_expects_it(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            first: list[int] = []
            second: list[int] = []
            ids = [
                batch_client.expect_reply(lambda reply: first.append(reply.batch)),
                batch_client.expect_reply(lambda reply: second.append(reply.batch)),
            ]
            await put(client, batch_client, reply(ids[1]), reply(ids[0]))
            await batch_client.read_step()
            assert (first, second) == ([ids[0]], [ids[1]])

    run(scenario())


def test_a_reply_counts_once_and_only_while_it_is_expected(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            expected, ignored = (batch_client.expect_reply(lambda reply: got.append(reply.batch)) for _ in range(2))
            batch_client.ignore_reply(ignored)
            batch_client.ignore_reply(ignored)
            await put(client, batch_client, reply(ignored), reply(expected), reply(expected), reply(12345))
            await batch_client.read_step()
            assert got == [expected]

    run(scenario())


def test_two_gateways_do_not_read_each_others_replies(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (one, client), opened(broker) as (other, _):
            got: list[str] = []
            batches = one.expect_reply(lambda _: got.append("one")), other.expect_reply(lambda _: got.append("other"))
            assert batches[0] == batches[1], "so only the stream tells them apart"
            await put(client, other, reply(batches[1]))
            await one.read_step()
            assert got == []
            await other.read_step()
            assert got == ["other"]

    run(scenario())


def test_a_step_without_replies_ends_by_itself(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, _):
            await batch_client.read_step()

    run(scenario())


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"sesame",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        reply(1).replace('"v":2', '"v":1').encode(),
        reply(1).replace('"batch":1', '"batch":"sesame"').encode(),
        b'{"sesame":1,' + reply(1).encode()[1:],
    ],
)
def test_a_reply_that_can_not_be_read_is_dropped_and_the_others_are_delivered(
    broker: FakeServer, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            batch = batch_client.expect_reply(lambda reply: got.append(reply.batch))
            await put(client, batch_client, garbage)
            await client.xadd(batch_client.reply_to, {"other": "field"})
            await batch_client.read_step()
            assert got == []
            await put(client, batch_client, reply(batch))
            await batch_client.read_step()
            assert got == [batch]

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert len(caplog.records) == 2
    assert "sesame" not in caplog.text


def test_a_broken_connection_loses_no_reply(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            batches = [batch_client.expect_reply(lambda reply: got.append(reply.batch)) for _ in range(4)]
            await put(client, batch_client, reply(batches[0]))
            await batch_client.read_step()
            await put(client, batch_client, reply(batches[1]), reply(batches[2]))
            for _ in range(2):
                broker.connected = False
                with pytest.raises(redis.ConnectionError):
                    await batch_client.read_step()
                broker.connected = True
            await put(client, batch_client, reply(batches[3]))
            await batch_client.read_step()
            assert got == batches

    run(scenario())


def test_a_receiver_that_fails_costs_nobody_else_a_reply(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []

            def fail(_: BatchReply) -> None:
                got.append(-1)
                raise RuntimeError("asked to")

            bad, good = (
                batch_client.expect_reply(fail),
                batch_client.expect_reply(lambda reply: got.append(reply.batch)),
            )
            await put(client, batch_client, reply(bad), reply(good))
            with pytest.raises(RuntimeError):
                await batch_client.read_step()
            await batch_client.read_step()
            assert got == [-1, good]

    run(scenario())


def test_replies_that_were_read_are_trimmed_and_others_are_kept(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            batches = [batch_client.expect_reply(lambda reply: got.append(reply.batch)) for _ in range(600)]
            await put(client, batch_client, *map(reply, batches))
            while len(got) < len(batches):
                await batch_client.read_step()
                assert await client.xlen(batch_client.reply_to) >= len(batches) - len(got)
            assert got == batches
            assert await client.xlen(batch_client.reply_to) <= 200, "Redis drops whole nodes of a hundred"

    run(scenario())


def test_a_gateway_that_ends_leaves_no_stream_behind(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            await put(client, batch_client, reply(1))
            await batch_client.delete_replies()
            assert await client.keys() == []

    run(scenario())


@pytest.mark.parametrize("old", ["99999999999999-0", "99999999999999-7", "1795000000000-0"])
def test_a_stream_that_is_made_anew_with_smaller_ids_is_read_from_its_beginning(broker: FakeServer, old: str) -> None:
    """Redis' clock was set back, or another Redis took over, and the stream was lost."""

    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            batches = [batch_client.expect_reply(lambda reply: got.append(reply.batch)) for _ in range(3)]
            await client.xadd(batch_client.reply_to, {"reply": reply(batches[0])}, id=old)
            await batch_client.read_step()
            await client.delete(batch_client.reply_to)
            for entry_id, batch in (("5-1", batches[1]), ("5-2", batches[2])):
                await client.xadd(batch_client.reply_to, {"reply": reply(batch)}, id=entry_id)
            await batch_client.read_step()
            await batch_client.read_step()
            assert got == batches

    run(scenario())


def test_a_stream_that_is_gone_is_read_from_its_beginning_when_it_is_there_again(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            batches = [batch_client.expect_reply(lambda reply: got.append(reply.batch)) for _ in range(2)]
            await client.xadd(batch_client.reply_to, {"reply": reply(batches[0])}, id="99999999999999-0")
            await batch_client.read_step()
            await client.delete(batch_client.reply_to)
            await batch_client.read_step()
            await client.xadd(batch_client.reply_to, {"reply": reply(batches[1])}, id="1-0")
            await batch_client.read_step()
            assert got == batches

    run(scenario())


def test_a_stream_that_lags_behind_delivers_no_reply_twice(broker: FakeServer) -> None:
    """A replica took over that had not got the last entries; what it has was read already."""

    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            batches = [batch_client.expect_reply(lambda reply: got.append(reply.batch)) for _ in range(3)]
            for number, batch in enumerate(batches[:2], start=1):
                await client.xadd(batch_client.reply_to, {"reply": reply(batch)}, id=f"10-{number}")
            await batch_client.read_step()
            await client.delete(batch_client.reply_to)
            await client.xadd(batch_client.reply_to, {"reply": reply(batches[0])}, id="10-1")
            await batch_client.read_step()
            await batch_client.read_step()
            await put(client, batch_client, reply(batches[2]))
            await batch_client.read_step()
            assert got == batches

    run(scenario())


def test_while_nobody_waits_the_stream_is_not_asked_for(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):

            async def asked(*_: Any, **__: Any) -> None:
                raise AssertionError("it was asked")

            monkeypatch.setattr(client, "xrevrange", asked)
            await batch_client.read_step()

    run(scenario())


def test_another_key_in_the_place_of_the_stream_is_removed(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

    async def scenario() -> None:
        async with opened(broker) as (batch_client, client):
            got: list[int] = []
            batch = batch_client.expect_reply(lambda reply: got.append(reply.batch))
            await client.set(batch_client.reply_to, "no stream")
            with monkeypatch.context() as patch:
                # fakeredis has another error.
                patch.setattr(batch_client._reader, "xread", refuse)
                with pytest.raises(redis.ResponseError):
                    await batch_client.read_step()
            await put(client, batch_client, reply(batch))
            await batch_client.read_step()
            assert got == [batch]

    run(scenario())
