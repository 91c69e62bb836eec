"""Requests of more rows than one batch may hold."""

import asyncio
from array import array
from typing import Any

import pytest
import redis

from gateway.errors import BrokerUnavailable, DeadlineExceeded
from shared.queue.contract import BatchReply
from shared.queue.replies import as_packed, as_text, unpacked_pieces
from tests.support.coroutines import run, turns
from tests.unit.gateway.batching.test_batcher import Lane, predictions
from tests.unit.gateway.fakes import error_of

VALUES = [float(i) for i in range(10)]


def failure(*rows: int) -> dict[str, Any]:
    return {"error": {"code": "prediction_failed", "message": "no", "rows": list(rows)}}


def reply(lane: Lane, at: int, started_at: float, compute_seconds: float, form: Any = list) -> None:
    """Answer a batch that was started at this time, with probabilities in a form."""
    message = lane.batch_client.published[at]
    probabilities = form([[row[0]] for row in message.rows])
    results = [{"predictions": [row[0] for row in message.rows], "probabilities": probabilities}]
    answer = BatchReply(batch=message.batch, started_at=started_at, compute_seconds=compute_seconds, results=results)
    lane.batch_client._deliver(answer.to_json().encode())


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([(5.0, 0.5), (5.0, 0.5), (5.25, 0.5)], 0.75),
        ([(5.0, 2.0), (5.5, 0.25), (8.0, 0.5)], 2.5),
        ([(7.0, 0.5), (6.5, 0.5), (5.0, 0.5)], 1.5),
    ],
)
def test_time_in_which_several_slots_compute_a_request_counts_once(
    spans: list[tuple[float, float]], seconds: float
) -> None:
    async def scenario() -> None:
        lane = Lane(slots=3, batch_rows_max=4)
        task = lane.ask(*VALUES)
        await turns()
        for at, (started_at, compute_seconds) in enumerate(spans):
            reply(lane, at, started_at, compute_seconds)
        assert (await task).compute_seconds == seconds

    run(scenario())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_chunks_go_to_the_free_slots_and_are_put_together_in_order(order: tuple[int, ...]) -> None:
    async def scenario() -> None:
        lane = Lane(slots=3, batch_rows_max=4)
        task = lane.ask(*VALUES)
        await turns()
        assert lane.batches == [VALUES[:4], VALUES[4:8], VALUES[8:]]
        for at in order:
            assert not task.done()
            reply(lane, at, started_at=7.0 - at, compute_seconds=0.25)
            await turns()
        assert predictions(task) == VALUES
        assert task.result().result["probabilities"] == [[value] for value in VALUES]
        assert (task.result().started_at, task.result().compute_seconds) == (7.0, 0.75), "of the first, and the sum"

    run(scenario())


@pytest.mark.parametrize(
    "forms",
    [
        *((as_text, as_text, list), (list, as_text, list), (as_text, list, as_text)),
        *((as_packed, as_packed, as_packed), (list, as_packed, list), (as_packed, list, list)),
    ],
)
def test_probabilities_in_several_forms_are_put_together(forms: tuple[Any, ...]) -> None:
    async def scenario() -> None:
        lane = Lane(slots=3, batch_rows_max=4)
        task = lane.ask(*VALUES)
        await turns()
        for at, form in enumerate(forms):
            reply(lane, at, started_at=7.0, compute_seconds=0.25, form=form)
        joined = (await task).result["probabilities"]
        if as_packed in forms:
            assert [*array("d", b"".join(unpacked_pieces(joined)))] == VALUES
        else:
            assert joined == as_text([[value] for value in VALUES])

    run(scenario())


def test_between_two_chunks_everyone_else_has_a_turn() -> None:
    async def scenario() -> None:
        lane = Lane(slots=1, batch_rows_max=4)
        large = lane.ask(*VALUES)
        await turns()
        small = [lane.ask(100.0 + i) for i in range(3)]
        await turns()
        await lane.answer(lane.last)
        assert lane.batches[1] == [100.0, 101.0, 102.0, 4.0]
        await lane.answer(lane.last)
        assert [predictions(task) for task in small] == [[100.0], [101.0], [102.0]]
        assert not large.done()
        await lane.answer_everything(first=2)
        assert predictions(large) == VALUES

    run(scenario())


def test_two_large_requests_take_turns() -> None:
    async def scenario() -> None:
        lane = Lane(slots=1, batch_rows_max=4)
        first, second = lane.ask(*VALUES), lane.ask(*[50.0] * 8)
        await turns()
        await lane.answer_everything()
        assert [values[0] for values in lane.batches] == [0.0, 50.0, 4.0, 50.0, 8.0]
        assert (predictions(first), predictions(second)) == (VALUES, [50.0] * 8)

    run(scenario())


def test_chunks_are_as_large_as_the_compute_time_allows() -> None:
    async def scenario() -> None:
        lane = Lane(slots=1, batch_compute_target_seconds=0.03)
        await lane.learn(0.01)
        task = lane.ask(*VALUES)
        await turns()
        await lane.answer_everything()
        assert [len(values) for values in lane.batches] == [3, 3, 3, 1]
        assert predictions(task) == VALUES

    run(scenario())


def test_a_failing_row_fails_its_request_once_and_is_numbered_within_it() -> None:
    async def scenario() -> None:
        lane = Lane(slots=2, batch_rows_max=4)
        task = lane.ask(*VALUES)
        await turns()
        lane.batch_client.answer(lane.batch_client.published[1], [failure(1, 3)])
        await turns()
        assert task.result().result == failure(5, 7)
        assert lane.batcher.waiting_rows == 0
        assert len(lane.batches) == 2, "the last chunk is not sent any more"
        lane.batch_client.answer(lane.batch_client.published[0], [failure(0)])
        await turns()
        after = lane.ask(1.0)
        await turns()
        await lane.answer(lane.last)
        assert predictions(after) == [1.0]
        assert lane.batcher.idle

    run(scenario())


@pytest.mark.parametrize("result", [{}, {"predictions": None}, {"error": {}}, {"error": "no"}], ids=str)
def test_a_result_that_no_worker_has_written_ends_its_request_alone(result: dict[str, Any]) -> None:
    async def scenario() -> None:
        lane = Lane(slots=1, batch_rows_max=4)
        spoilt, neighbour = lane.ask(*VALUES[:5]), lane.ask(*VALUES[5:])
        await turns()
        for at in range(2):
            reply(lane, at, started_at=5.0, compute_seconds=0.25)
            await turns()
        first, *others = lane.batches[2]
        assert first == VALUES[4]
        results = [result, {"predictions": others, "probabilities": [[value] for value in others]}]
        answer = BatchReply(batch=lane.last.batch, started_at=6.0, compute_seconds=0.25, results=results)
        lane.batch_client._deliver(answer.to_json().encode())
        await turns()
        assert predictions(neighbour) == VALUES[5:]
        assert spoilt.exception() is not None

    run(scenario())


def test_past_its_deadline_the_rest_is_dropped() -> None:
    async def scenario() -> None:
        lane = Lane(slots=1, batch_rows_max=4)
        task = lane.ask(*VALUES, deadline_seconds=0.01)
        await error_of(task, DeadlineExceeded)
        assert lane.batcher.waiting_rows == lane.all_models.held == 0
        await lane.answer(lane.last)
        assert lane.batches == [VALUES[:4]]
        assert lane.batcher.idle

    run(scenario())


def test_a_caller_who_leaves_takes_the_rest_along() -> None:
    async def scenario() -> None:
        lane = Lane(slots=1, batch_rows_max=4)
        task = lane.ask(*VALUES)
        await turns()
        task.cancel()
        await turns()
        assert lane.batcher.waiting_rows == 0
        await lane.answer(lane.last)
        assert len(lane.batches) == 1
        await asyncio.gather(task, return_exceptions=True)

    run(scenario())


def test_if_the_broker_does_not_take_a_chunk_the_request_ends() -> None:
    async def scenario() -> None:
        lane = Lane(slots=1, batch_rows_max=4)
        task = lane.ask(*VALUES)
        await turns()
        lane.batch_client.failure = redis.ConnectionError("x")
        await lane.answer(lane.last)
        await error_of(task, BrokerUnavailable)
        assert lane.batcher.waiting_rows == 0
        assert lane.batcher.idle

    run(scenario())
