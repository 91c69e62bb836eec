"""The job scripts on a Redis in memory, with a clock that the test controls."""

import time
from collections.abc import Iterator

import pytest

from tests.support.jobs import Clock, JobBoard


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def board(clock: Clock) -> Iterator[JobBoard]:
    board = JobBoard(clock)
    yield board
    board.assert_conserved()
    board.redis.close()
