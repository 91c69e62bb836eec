"""Random kills and freezes of all processes, under load, for a configurable time."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import kills
from tests.chaos.arena import VISIBILITY_SECONDS, Arena, freeze, thaw
from tests.chaos.seeds import SEEDS
from tests.support.processes import pause

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))

Fault = Callable[[Arena, random.Random], None]


@pytest.mark.whole_chaos
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("seed", [pytest.param(seed, id=f"{SECONDS:g} s, seed {seed}") for seed in SEEDS])
@pytest.mark.fault(
    "everything is killed, frozen and cut off at random",
    "all invariants; in the end everything serves again by itself",
    within=VISIBILITY_SECONDS + 7,
)
def test_random_faults(seed: int, arena: Arena, measure: Callable[[float], None]) -> None:
    arena.ledger.jobs_may_fail = True
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    arena.ledger.connections_may_break = True
    print(f"SECONDS={SECONDS:g} SEED={seed}")
    with arena.traffic(callers=4, submitters=3, sleep_seconds=0.05, seed=seed):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            fault = chance.choice(FAULTS)
            print(f"{SECONDS - (until - time.monotonic()):7.1f} s  {fault.__name__.strip('_')}", flush=True)
            fault(arena, chance)
            done[fault.__name__.strip("_")] += 1
            pause(chance.uniform(0.2, 4.0))
        # Restore what the last fault has left stopped; the service has to recover by itself.
        kills.start_what_ended(arena.stack)
        measure(arena.serves_again(time.monotonic(), 60))
    print(dict(done), dict(arena.ledger.answers), dict(arena.ledger.outcomes), f"repeats {arena.ledger.repeats}")


def _kill_a_child(arena: Arena, chance: random.Random) -> None:
    kills.kill_a_child(arena.stack, chance)


def _kill_a_worker(arena: Arena, chance: random.Random) -> None:
    kills.kill_a_worker(arena.stack, chance)


def _stop_a_worker(arena: Arena, chance: random.Random) -> None:
    # A worker that hangs on a broken connection may need its whole drain time.
    chance.choice(arena.stack.workers).stop(40)
    kills.start_what_ended(arena.stack)


def _freeze_a_worker(arena: Arena, chance: random.Random) -> None:
    worker = chance.choice(arena.stack.workers)
    freeze(worker)
    pause(chance.uniform(0.2, 6.0))
    thaw(worker)


def _kill_the_gateway(arena: Arena, chance: random.Random) -> None:
    kills.kill_the_gateway(arena.stack, chance)


def _kill_the_broker(arena: Arena, chance: random.Random) -> None:
    kills.kill_the_broker(arena.stack, chance)


def _freeze_the_broker(arena: Arena, chance: random.Random) -> None:
    freeze(arena.stack.broker)
    pause(chance.uniform(0.2, 4.0))
    thaw(arena.stack.broker)


def _cut_silently(arena: Arena, chance: random.Random) -> None:
    chance.choice([arena.gateway_proxy, arena.worker_proxy]).half_open()


def _reset_connections(arena: Arena, chance: random.Random) -> None:
    chance.choice([arena.gateway_proxy, arena.worker_proxy]).reset_peer()


def _spoil_the_network(arena: Arena, chance: random.Random) -> None:
    with chance.choice([arena.gateway_proxy, arena.worker_proxy]).with_toxics(**chance.choice(TOXICS)):
        pause(chance.uniform(0.2, 3.0))


TOXICS: list[dict[str, Any]] = [
    {"latency_seconds": 0.1},
    {"slice_bytes": 11},
    {"timeout": True},
    {"bandwidth_bytes_per_second": 50_000},
]

FAULTS: list[Fault] = [
    _kill_a_child,
    _kill_a_worker,
    _stop_a_worker,
    _freeze_a_worker,
    _kill_the_gateway,
    _kill_the_broker,
    _freeze_the_broker,
    _cut_silently,
    _reset_connections,
    _spoil_the_network,
]
