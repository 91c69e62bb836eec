"""The network between the processes and the broker is cut, slowed down and sliced."""

import time

import pytest

from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure


@pytest.mark.fault(
    "half-open: old connections of gateway and workers are silent, new ones pass",
    "what the broker writes into a dead connection is published again",
    within=20,
)
def test_half_open_connections(arena: Arena, measure: Measure) -> None:
    with arena.traffic():
        cut = time.monotonic()
        assert arena.gateway_proxy.half_open() and arena.worker_proxy.half_open()
        measure(arena.serves_again(cut, 30))
