"""The broker goes away, hangs, fills up and forgets."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import RedisError

from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure
from tests.chaos.ledger import question
from tests.support.processes import wait_for

FILLING = [f"filling:{number}" for number in range(6000)]


def _for_seconds(seconds: float, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert holds()
        time.sleep(0.1)


def _alive_not_ready(arena: Arena) -> None:
    assert arena.stack.status("/livez") == 200
    assert arena.stack.status("/readyz") == 503


@pytest.mark.parametrize(
    ("seconds", "times"),
    [pytest.param(2, 1, id="2 s"), pytest.param(10, 4, id="10 s, four times", marks=pytest.mark.whole_chaos)],
)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, id="SIGKILL"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.whole_chaos),
    ],
)
@pytest.mark.fault("Redis is down", "submissions get 503 within 2 s; accepted jobs survive; workers resume", within=5)
def test_the_broker_is_down(arena: Arena, measure: Measure, how: int, seconds: float, times: int) -> None:
    pids = [process.pid for process in (arena.stack.gateway, *arena.stack.workers)]
    with arena.traffic():
        for _ in range(times):
            if how == signal.SIGKILL:
                arena.stack.broker.kill()
            else:
                arena.stack.broker.stop()
            _alive_not_ready(arena)
            _for_seconds(seconds, lambda: arena.stack.status("/livez") == 200)
            arena.stack.start_broker()
            measure(arena.serves_again(time.monotonic(), 30))
    assert pids == [process.pid for process in (arena.stack.gateway, *arena.stack.workers)]


@pytest.mark.whole_chaos
@pytest.mark.fault(
    "Redis was killed and reads a large file for 8 s",
    "503 meanwhile; no process ends, although tasks fail and their results are not read",
    within=15,
)
def test_the_broker_is_loading(arena: Arena, measure: Measure) -> None:
    redis, broker = arena.stack.redis, arena.stack.broker
    pids = [process.pid for process in (arena.stack.gateway, *arena.stack.workers)]
    _make_the_file_large(arena)
    command = broker.command
    with arena.traffic():
        jobs = [arena.submit(question(number, sleep_seconds=0.5)) for number in range(8)]
        wait_for("a job runs", lambda: "running" in map(arena.client.status, jobs))
        broker.kill()
        # Redis' own options for tests: a pause per key, with answers in between.
        broker.command = [*command, "--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024"]
        try:
            broker.start()
        finally:
            broker.command = command
        wait_for("the broker says that it loads", lambda: _is_loading(arena))
        _for_seconds(8, lambda: arena.stack.status("/livez") == 200)
        assert _is_loading(arena)
        redis.config_set("key-load-delay", 0)
        wait_for("the broker has loaded", lambda: not _is_loading(arena))
        redis.delete(*FILLING)
        measure(arena.serves_again(time.monotonic(), 30))
    assert pids == [process.pid for process in (arena.stack.gateway, *arena.stack.workers)]


def _make_the_file_large(arena: Arena) -> None:
    """Write a large snapshot. Redis reads a snapshot in small pieces, and commands of a log by the thousand."""
    redis = arena.stack.redis
    redis.mset(dict.fromkeys(FILLING, "x" * 1000))
    redis.bgrewriteaof()

    def is_written() -> bool:
        persistence: Any = redis.info("persistence")
        return not (persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"])

    wait_for("the file is written anew", is_written)


def _is_loading(arena: Arena) -> bool:
    try:
        persistence: Any = arena.stack.redis.info("persistence")
    except RedisError:
        return False
    return bool(persistence["loading"])


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(5, id="5 s"),
        pytest.param(30, id="30 s", marks=pytest.mark.whole_chaos),
        pytest.param(120, id="120 s", marks=[pytest.mark.whole_chaos, pytest.mark.timeout(300)]),
    ],
)
@pytest.mark.fault("SIGSTOP of Redis", "callers get 503 or 504 by their deadline; alive, not ready", within=15)
def test_the_broker_hangs(arena: Arena, measure: Measure, seconds: float) -> None:
    with arena.traffic():
        arena.stack.broker.signal(signal.SIGSTOP)
        _alive_not_ready(arena)
        _for_seconds(seconds, lambda: arena.stack.status("/livez") == 200)
        arena.stack.broker.signal(signal.SIGCONT)
        measure(arena.serves_again(time.monotonic(), 30))


@pytest.mark.fault("Redis is at maxmemory for 3 s", "503 meanwhile; popped entries are recovered", within=10)
def test_the_broker_is_full(arena: Arena, measure: Measure) -> None:
    redis = arena.stack.redis
    with arena.traffic():
        jobs = [arena.submit(question(n, sleep_seconds=0.2)) for n in range(12)]
        try:
            redis.config_set("maxmemory", 1)
            wait_for("submissions are refused", lambda: arena.client.submit(question(1)) is None)
            _for_seconds(3, lambda: arena.stack.status("/livez") == 200)
        finally:
            redis.config_set("maxmemory", 0)
        measure(arena.serves_again(time.monotonic(), 30))
        for job in jobs:
            arena.wait_for_end(job, 30)


@pytest.mark.fault("Redis forgets everything (FLUSHALL)", "open jobs are unknown (404): the only loss", within=5)
def test_the_broker_is_emptied(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_vanish = True
    job = arena.submit(question(1, sleep_seconds=0.8))
    with arena.traffic():
        arena.stack.redis.flushall()
        measure(arena.serves_again(time.monotonic(), 30))
    assert arena.stack.http.get(f"/jobs/{job}").status_code == 404
