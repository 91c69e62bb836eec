"""The network between the processes and the broker is cut, slowed down and sliced."""

import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure
from tests.support.processes import hold_for, wait_for

RECOVERED_WITHIN = 20


@pytest.mark.fault(
    "half-open: old connections of gateway and workers are silent, new ones pass",
    "entries that the broker writes into a dead connection are published again",
    within=RECOVERED_WITHIN,
)
def test_half_open_connections(arena: Arena, measure: Measure) -> None:
    with arena.traffic():
        cut = time.monotonic()
        assert arena.gateway_proxy.half_open() and arena.worker_proxy.half_open()
        measure(arena.serves_again(cut, 2 * RECOVERED_WITHIN))


@pytest.mark.fault("reset_peer: every connection is reset, ten times", "no process ends", within=RECOVERED_WITHIN)
def test_connections_are_reset(arena: Arena, measure: Measure) -> None:
    pids = _pids(arena)
    with arena.traffic():
        for _ in range(10):
            wait_for("connections", lambda: arena.gateway_proxy.connections and arena.worker_proxy.connections)
            arena.gateway_proxy.reset_peer()
            arena.worker_proxy.reset_peer()
            reset = time.monotonic()
        measure(arena.serves_again(reset, 2 * RECOVERED_WITHIN))
    assert _pids(arena) == pids


@pytest.mark.fault("down: connections are refused for 3 s", "503 meanwhile; no process ends", within=RECOVERED_WITHIN)
def test_connections_are_refused(arena: Arena, measure: Measure) -> None:
    pids = _pids(arena)
    with arena.traffic():
        with arena.gateway_proxy.down(), arena.worker_proxy.down():
            hold_for(3, lambda: arena.stack.status("/livez") == 200)
        measure(arena.serves_again(time.monotonic(), 2 * RECOVERED_WITHIN))
    assert _pids(arena) == pids


@pytest.mark.parametrize(
    "seconds", [pytest.param(5, id="5 s"), pytest.param(30, id="30 s", marks=pytest.mark.whole_chaos)]
)
@pytest.mark.fault("timeout: nothing passes, connections stay", "503 or 504 meanwhile", within=RECOVERED_WITHIN)
def test_nothing_passes(arena: Arena, measure: Measure, seconds: float) -> None:
    pids = _pids(arena)
    with arena.traffic():
        with arena.gateway_proxy.with_toxics(timeout=True), arena.worker_proxy.with_toxics(timeout=True):
            hold_for(seconds, lambda: arena.stack.status("/livez") == 200)
        measure(arena.serves_again(time.monotonic(), 2 * RECOVERED_WITHIN))
    assert _pids(arena) == pids


@pytest.mark.parametrize(
    "toxics",
    [
        pytest.param({"latency_seconds": 0.2}, id="latency 200 ms"),
        pytest.param({"slice_bytes": 7}, id="slicer 7 bytes", marks=pytest.mark.whole_chaos),
        pytest.param({"bandwidth_bytes_per_second": 10_240}, id="bandwidth 10 KiB/s", marks=pytest.mark.whole_chaos),
        pytest.param({"limit_data_bytes": 20_000}, id="limit_data 20 kB", marks=pytest.mark.whole_chaos),
        pytest.param({"slow_close_seconds": 2.0}, id="slow_close 2 s", marks=pytest.mark.whole_chaos),
    ],
)
@pytest.mark.fault("a bad network for 5 s", "no hang, no crash: calls are served or refused", within=RECOVERED_WITHIN)
def test_a_bad_network(arena: Arena, measure: Measure, toxics: dict[str, Any]) -> None:
    pids = _pids(arena)
    with arena.traffic():
        with ExitStack() as bad:
            for proxy in (arena.gateway_proxy, arena.worker_proxy):
                bad.enter_context(proxy.with_toxics(**toxics))
            hold_for(5, lambda: arena.stack.status("/livez") == 200)
        measure(arena.serves_again(time.monotonic(), 2 * RECOVERED_WITHIN))
    assert _pids(arena) == pids


def _pids(arena: Arena) -> list[int]:
    return [process.pid for process in (arena.stack.gateway, *arena.stack.workers) if process.running]
