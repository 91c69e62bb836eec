"""Batches of many rows: cut from an iterable when they are needed, and worked on side by side."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterator, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from headrace.client.calls import whole
from headrace.client.rows import each_of

R = TypeVar("R")
F = TypeVar("F")

BATCH_ROWS = 500
"""Rows of a request."""

CONCURRENCY = 4
"""Requests that are on their way at a time."""


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of an iterable."""

    first: int
    """Position of the first row."""
    rows: list[Any]


def check_limits(batch_rows: int, concurrency: int) -> None:
    """Check the limits of a map.

    Raises:
        ClientMisused: if one is no whole number, or less than 1.
    """
    whole("batch_rows", batch_rows, 1)
    whole("concurrency", concurrency, 1)


def batches_of(rows: Any, size: int) -> Iterator[Batch]:
    """Yield the rows in batches. Where the iterable fails, the rows before come first, and then its error."""
    each, first = iter(each_of(rows)), 0
    while True:
        taken: list[Any] = []
        error = None
        try:
            for row in islice(each, size):
                taken.append(row)
        except Exception as raised:
            error = raised
        if taken:
            yield Batch(first, taken)
        if error is not None:
            raise error
        if len(taken) < size:
            return
        first += size


async def async_batches_of(rows: Any, size: int) -> AsyncGenerator[Batch, None]:
    """Yield the rows of an iterable or an asynchronous one in batches, as `batches_of` does."""
    if not isinstance(rows, AsyncIterable):
        for batch in batches_of(rows, size):
            yield batch
        return
    each, first = aiter(rows), 0
    while True:
        taken: list[Any] = []
        error, ended = None, False
        try:
            while len(taken) < size:
                taken.append(await anext(each))
        except StopAsyncIteration:
            ended = True
        except Exception as raised:
            error = raised
        if taken:
            yield Batch(first, taken)
        if error is not None:
            raise error
        if ended:
            return
        first += size


def side_by_side(
    batches: Iterator[Batch], work: Callable[[Batch], R], concurrency: int, ordered: bool
) -> Generator[R, None, None]:
    """Yield the results of batches that threads work on.

    When the generator is closed, or a batch fails, the work that is on its way goes on to its end, and no other begins.

    Args:
        batches: the batches; each is taken when a thread is free for it.
        work: the function that each batch is given to.
        concurrency: batches at most that are worked on, or wait for the result of one before them.
        ordered: True for the results in the order of the batches, False for the order in which they end.
    """
    running: list[Future[R]] = []

    def fill() -> bool:
        """Take batches until no thread is free; return False at the end of the batches."""
        while len(running) < concurrency:
            try:
                running.append(pool.submit(work, next(batches)))
            except StopIteration:
                return False
            except Exception as error:
                # Its turn comes after the batches before it.
                running.append(Future())
                running[-1].set_exception(error)
                return False
        return True

    with ThreadPoolExecutor(concurrency) as pool:
        more = fill()
        while running:
            done, _ = wait(running[:1] if ordered else running, return_when=FIRST_COMPLETED)
            result = _taken(running, done).result()
            more = more and fill()
            yield result


async def async_side_by_side(
    batches: AsyncIterator[Batch], work: Callable[[Batch], Coroutine[Any, Any, R]], concurrency: int, ordered: bool
) -> AsyncGenerator[R, None]:
    """Yield the results of batches that tasks work on, as `side_by_side` does; at the end they are cancelled."""
    running: list[asyncio.Future[R]] = []

    async def fill() -> bool:
        while len(running) < concurrency:
            try:
                running.append(asyncio.create_task(work(await anext(batches))))
            except StopAsyncIteration:
                return False
            except Exception as error:
                running.append(asyncio.get_running_loop().create_future())
                running[-1].set_exception(error)
                return False
        return True

    try:
        more = await fill()
        while running:
            done, _ = await asyncio.wait(running[:1] if ordered else running, return_when=asyncio.FIRST_COMPLETED)
            result = _taken(running, done).result()
            more = more and await fill()
            yield result
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _taken(running: list[F], done: Set[F]) -> F:
    """Take the first that is done out of those that run."""
    ended = next(each for each in running if each in done)
    running.remove(ended)
    return ended
