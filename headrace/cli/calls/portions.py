"""Many rows in portions, each of which is one request that a gateway takes."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import orjson

from headrace.cli.calls.features import Row
from headrace.cli.calls.outcomes import Stopped
from headrace.client.errors import InvalidRequest
from headrace.errors import HeadraceError

BODY_BYTES = 3_900_000
"""Bytes of a request's rows: with what is around them below the BODY_MAX_BYTES of a gateway as delivered."""

PROGRESS_SECONDS = 0.2
"""Seconds between two lines of progress."""

Answer = TypeVar("Answer")


def in_portions(rows: list[Row], most: int, ask: Callable[[list[Row], int], Answer]) -> Iterator[Answer]:
    """Yield the answers to rows in their order; where a gateway takes fewer rows in a request, it gets fewer.

    Args:
        rows: the rows.
        most: rows of a request at most.
        ask: a function that sends rows, and gets the position of the first one too.

    Raises:
        Stopped: if one request of several fails.
        HeadraceError: if the only one does.
    """
    start = 0
    progress = _Progress(len(rows))
    try:
        while start < len(rows):
            portion = rows[start : start + _fitting(rows, start, most)]
            try:
                answer = ask(portion, start)
            except (HeadraceError, KeyboardInterrupt) as error:
                if len(portion) > 1 and isinstance(error, InvalidRequest) and error.is_too_large:
                    most = len(portion) // 2
                    continue
                if len(portion) == len(rows):
                    raise
                raise stopped_at(error, start, len(portion)) from error
            start += len(portion)
            yield answer
            progress.show(start)
    finally:
        progress.end()


def stopped_at(error: BaseException, start: int, n_rows: int) -> Stopped:
    """Return the error of one request of several, with the place of its rows."""
    first, last = start + 1, start + n_rows
    return Stopped(error, f"in rows {first:,} to {last:,}", {"first_row": first, "last_row": last}, start)


def _fitting(rows: list[Row], start: int, most: int) -> int:
    """Return how many rows from `start` on fit into a request, at least one."""
    size = 0
    for count, row in enumerate(rows[start : start + most]):
        size += len(orjson.dumps(row)) + 1
        if size > BODY_BYTES:
            return max(1, count)
    return most


class _Progress:
    """A line of progress on a terminal, unless the answers are on the same one."""

    def __init__(self, total: int) -> None:
        self._total = total
        # The original stream: a carriage return would be escaped on the other.
        terminal = sys.__stderr__
        self._terminal = terminal if terminal and terminal.isatty() and not sys.stdout.isatty() else None
        self._shown_at = 0.0

    def show(self, done: int) -> None:
        now = time.monotonic()
        if self._terminal and (now >= self._shown_at + PROGRESS_SECONDS or done == self._total):
            self._terminal.write(f"\r{done:,} of {self._total:,} rows")
            self._terminal.flush()
            self._shown_at = now

    def end(self) -> None:
        if self._terminal and self._shown_at:
            self._terminal.write("\n")
