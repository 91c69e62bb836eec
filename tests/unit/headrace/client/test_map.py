"""Predictions of any number of rows: bounded, in order, and ended cleanly."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from headrace import AsyncClient, Client
from headrace.client import errors
from tests.support.coroutines import run, until
from tests.unit.headrace.client.test_client import problem


class Doubling:
    """A gateway that predicts twice the value of each row; `before` is called with the rows of each request."""

    def __init__(self, before: Callable[[list[float]], httpx.Response | None] = lambda _: None) -> None:
        self.requests: list[list[float]] = []
        self._before = before

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"name": "m", "version": "v1", "features": [{"name": "x"}]})
        values = [row["x"] for row in json.loads(request.content)["instances"]]
        self.requests.append(values)
        doubled = {"predictions": [2 * value for value in values], "model": "m", "version": "v1"}
        return self._before(values) or httpx.Response(200, json=doubled)


Map = Callable[..., list[dict[str, Any]]]


def mapped(gateway: Doubling, rows: Any, **options: Any) -> list[dict[str, Any]]:
    with Client("http://gateway", transport=httpx.MockTransport(gateway), retries=0) as client:
        return list(client.map(rows, **options))


def mapped_async(gateway: Doubling, rows: Any, **options: Any) -> list[dict[str, Any]]:
    async def all_rows() -> list[dict[str, Any]]:
        async with AsyncClient("http://gateway", transport=httpx.MockTransport(gateway), retries=0) as client:
            return [document async for document in client.map(rows, **options)]

    return run(all_rows())


both = pytest.mark.parametrize("all_of", [mapped, mapped_async], ids=["threads", "tasks"])


def numbers(count: int) -> Iterator[dict[str, float]]:
    return ({"x": float(at)} for at in range(count))


@both
@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (7, [3, 3, 1])])
def test_each_row_gets_its_prediction_in_order(all_of: Map, count: int, sizes: list[int]) -> None:
    gateway, progress = Doubling(), list[int]()

    documents = all_of(gateway, numbers(count), batch_rows=3, on_progress=progress.append)

    expected = [{"row": at, "prediction": 2.0 * at, "model": "m", "version": "v1"} for at in range(count)]
    assert documents == expected
    assert sorted(map(len, gateway.requests), reverse=True) == sizes
    assert progress == [sum(sizes[: at + 1]) for at in range(len(sizes))]


@both
@pytest.mark.parametrize(
    "rows", [np.array([[0.0], [1.0], [2.0]]), [[0.0], [1.0], [2.0]], pd.DataFrame({"x": [0.0, 1.0, 2.0]})], ids=type
)
def test_rows_come_in_every_form(all_of: Map, rows: Any) -> None:
    assert [document["prediction"] for document in all_of(Doubling(), rows, batch_rows=2)] == [0.0, 2.0, 4.0]


@both
def test_probabilities_belong_to_their_rows(all_of: Map) -> None:
    answer = {"predictions": ["a", "b"], "probabilities": [{"a": 1.0}, {"a": 0.25}]}

    documents = all_of(Doubling(lambda _: httpx.Response(200, json=answer)), numbers(2))

    assert documents == [
        {"row": 0, "prediction": "a", "probabilities": {"a": 1.0}},
        {"row": 1, "prediction": "b", "probabilities": {"a": 0.25}},
    ]


@pytest.mark.parametrize(("ordered", "expected"), [(True, [0, 1]), (False, [1, 0])])
def test_the_order_may_be_that_of_the_answers(ordered: bool, expected: list[int]) -> None:
    second_is_there = threading.Event()

    def hold_the_first(values: list[float]) -> None:
        if values == [0.0]:
            assert second_is_there.wait(60)

    def progress(done: int) -> None:
        second_is_there.set()

    if ordered:
        second_is_there.set()
    documents = mapped(
        Doubling(hold_the_first), numbers(2), batch_rows=1, concurrency=2, on_progress=progress, ordered=ordered
    )

    assert [document["row"] for document in documents] == expected


def test_requests_are_made_side_by_side_up_to_the_limit() -> None:
    together, running, most = threading.Barrier(3), [0], [0]
    lock = threading.Lock()

    def meet(values: list[float]) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(60)
        with lock:
            running[0] -= 1

    assert len(mapped(Doubling(meet), numbers(12), batch_rows=1, concurrency=3)) == 12
    assert most == [3]


@both
def test_rows_are_read_when_they_are_needed(all_of: Map) -> None:
    read, predicted, ahead = [0], [0], [0]

    def rows() -> Iterator[dict[str, float]]:
        for row in numbers(1000):
            read[0] += 1
            ahead[0] = max(ahead[0], read[0] - predicted[0])
            yield row

    def progress(done: int) -> None:
        predicted[0] = done

    assert len(all_of(Doubling(), rows(), batch_rows=10, concurrency=2, on_progress=progress)) == 1000
    assert 10 <= ahead[0] <= 30


@both
@pytest.mark.parametrize("at", [0, 4, 8])
def test_a_refused_row_is_named_by_its_position_among_all(all_of: Map, at: int) -> None:
    def refuse(values: list[float]) -> httpx.Response | None:
        if float(at) not in values:
            return None
        position = values.index(float(at))
        mistakes = [{"pointer": f"/instances/{position}/x", "detail": "too large"}]
        return problem(422, "invalid_rows", errors=mistakes)

    with pytest.raises(errors.InvalidRequest) as caught:
        all_of(Doubling(refuse), numbers(9), batch_rows=3)

    assert caught.value.rows == [at]
    assert str(caught.value) == f"422 invalid_rows: a reason (/instances/{at}/x: too large)"


def test_rows_that_the_model_refused_are_named_too_and_those_before_are_predicted() -> None:
    refused = problem(422, "row_rejected", rows=[1, 2], count=2)
    gateway = Doubling(lambda values: refused if values[0] == 3.0 else None)
    documents: list[Any] = []

    with Client("http://gateway", transport=httpx.MockTransport(gateway)) as client:
        results = client.map(numbers(9), batch_rows=3)
        with pytest.raises(errors.InvalidRequest) as caught:
            documents.extend(results)

    assert (caught.value.rows, caught.value.members["rows"]) == ([4, 5], [4, 5])
    assert [document["row"] for document in documents] == [0, 1, 2]


@both
def test_a_row_that_is_none_is_named_by_its_position(all_of: Map) -> None:
    with pytest.raises(errors.UnusableRows, match=r"^row 5 is of type str: "):
        all_of(Doubling(), [*numbers(5), "row"], batch_rows=2)
    with pytest.raises(errors.UnusableRows, match=r"^row 3 has 2 values, and the model has 1 feature; or"):
        all_of(Doubling(), [[1.0], [1.0], [1.0], [1.0, 2.0]], batch_rows=2)
    with pytest.raises(errors.UnusableRows, match=r"^the rows are of type str: "):
        all_of(Doubling(), "rows")


@both
def test_an_error_of_the_iterable_comes_after_the_rows_before_it(all_of: Map) -> None:
    def rows() -> Iterator[dict[str, float]]:
        yield from numbers(5)
        raise OSError("the file ends here")

    progress: list[int] = []
    with pytest.raises(OSError, match="the file ends here"):
        all_of(Doubling(), rows(), batch_rows=2, on_progress=progress.append)

    assert progress == [2, 4, 5]


TOO_MANY = {"errors": [{"pointer": "/instances", "detail": "List should have at most 2 items"}]}


@both
@pytest.mark.parametrize(("status", "members"), [(413, {}), (422, TOO_MANY)])
def test_a_batch_that_is_too_large_is_sent_in_parts(all_of: Map, status: int, members: dict[str, Any]) -> None:
    gateway = Doubling(lambda values: problem(status, "too_large", **members) if len(values) > 2 else None)

    documents = all_of(gateway, numbers(11), batch_rows=7, concurrency=1)

    assert [(document["row"], document["prediction"]) for document in documents] == [(at, 2.0 * at) for at in range(11)]
    with pytest.raises(errors.InvalidRequest, match=rf"^{status} "):
        all_of(Doubling(lambda _: problem(status, "too_large", **members)), numbers(2))


@both
@pytest.mark.parametrize("members", [{"predictions": [1]}, {"predictions": [1, 2], "probabilities": [{}]}])
def test_an_answer_with_another_number_of_predictions_is_unusable(all_of: Map, members: dict[str, Any]) -> None:
    with pytest.raises(errors.UnusableAnswer, match="not one prediction for each of 2 rows"):
        all_of(Doubling(lambda _: httpx.Response(200, json=members)), numbers(2))


@both
@pytest.mark.parametrize("limit", ["batch_rows", "concurrency"])
def test_limits_that_are_no_whole_numbers_from_one_on_are_refused(all_of: Map, limit: str) -> None:
    with pytest.raises(errors.ClientMisused, match=rf"^{limit} is 1 at least, and not 0$"):
        all_of(Doubling(), numbers(1), **{limit: 0})
    for wrong in (2.5, "4", None):
        with pytest.raises(errors.ClientMisused, match=rf"^{limit} is a whole number, and not of type "):
            all_of(Doubling(), numbers(1), **{limit: wrong})
    assert all_of(Doubling(), numbers(1), **{limit: np.int64(1)})


def test_an_iterator_that_is_left_sends_no_more_and_leaves_no_thread() -> None:
    gateway, threads = Doubling(), threading.active_count()

    with Client("http://gateway", transport=httpx.MockTransport(gateway)) as client:
        results = client.map(numbers(1_000_000), batch_rows=1, concurrency=2)
        assert next(results)["row"] == 0
        results.close()

    assert len(gateway.requests) <= 4
    assert threading.active_count() == threads


def test_an_asynchronous_generator_that_is_left_cancels_its_requests() -> None:
    begun, cancelled = list[float](), list[float]()

    async def answer(request: httpx.Request) -> httpx.Response:
        values = [row["x"] for row in json.loads(request.content)["instances"]]
        if values != [0.0]:
            begun.extend(values)
            try:
                await asyncio.sleep(600)
            finally:
                cancelled.extend(values)
        return httpx.Response(200, json={"predictions": values})

    async def story() -> None:
        async with (
            AsyncClient("http://gateway", transport=httpx.MockTransport(answer)) as client,
            aclosing(client.map(numbers(1_000_000), batch_rows=1, concurrency=2)) as results,
        ):
            assert (await anext(results))["row"] == 0
            await until("two others", lambda: len(begun) == 2)

    run(story())
    assert sorted(cancelled) == sorted(begun) == [1.0, 2.0]


def test_rows_may_come_asynchronously() -> None:
    async def rows() -> AsyncIterator[dict[str, float]]:
        for row in numbers(5):
            await asyncio.sleep(0)
            yield row

    async def broken() -> AsyncIterator[dict[str, float]]:
        yield {"x": 1.0}
        raise OSError("the file ends here")

    progress: list[int] = []

    assert [document["row"] for document in mapped_async(Doubling(), rows(), batch_rows=2)] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="the file ends here"):
        mapped_async(Doubling(), broken(), on_progress=progress.append)
    assert progress == [1]
