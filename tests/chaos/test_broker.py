"""The broker goes away, hangs, fills up and forgets."""

import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from shared.queue import keys
from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure
from tests.chaos.ledger import Question, question
from tests.support.processes import hold_for, wait_for
from tests.support.puppet import Act
from tests.support.redis_clock import RedisClock

FILLING = [f"filling:{number}" for number in range(6000)]


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
            hold_for(seconds, lambda: arena.stack.status("/livez") == 200)
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
        hold_for(8, lambda: arena.stack.status("/livez") == 200)
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
        hold_for(seconds, lambda: arena.stack.status("/livez") == 200)
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
            hold_for(3, lambda: arena.stack.status("/livez") == 200)
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


def _has_ended(arena: Arena, job: str) -> bool:
    return arena.stack.redis.zscore(keys.JOBS_OPEN, job) is None


def _has_failed(arena: Arena, job: str) -> bool:
    return arena.stack.redis.hget(keys.job(job), "status") == b"failed"


@pytest.mark.fault(
    "Redis is full when outcomes come",
    "results make room, or jobs fail as result_too_large; none is worker_lost",
    within=10,
)
def test_there_is_no_memory_for_outcomes(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_fail = True
    redis = arena.stack.redis
    asked = Question([{"value": 1, "act": Act.ANSWER}] * 500, ["high"] * 500)
    waits = [arena.submit(question(number, sleep_seconds=0.5)) for number in range(arena.slots)]
    jobs = [arena.submit(asked) for _ in range(20)]
    try:
        redis.config_set("maxmemory", 1)
        for job in (*waits, *jobs):
            wait_for("it ends", partial(_has_ended, arena, job), 30)
    finally:
        redis.config_set("maxmemory", 0)
    measure(arena.serves_again(time.monotonic(), 30))
    outcomes = [json.loads(redis.hget(keys.job(job), "outcome") or b"{}") for job in jobs]
    assert {outcome.get("error", {}).get("code") for outcome in outcomes} <= {None, "result_too_large"}
    for job in (*waits, *jobs):
        if redis.hexists(keys.job(job), "result_dropped"):
            # The answer for it is 410.
            arena.ledger.open_jobs.pop(job)


@pytest.mark.fault(
    "an empty Redis takes over whose clock is an hour behind", "calls are answered again; open jobs are lost", within=5
)
def test_an_empty_broker_with_a_slower_clock(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_vanish = True
    redis = arena.stack.redis
    assert arena.stack.predict(question(1).rows).status_code == 200
    streams: Any = redis.keys(keys.replies("*"))
    read = len(arena.stack.gateway.log().split("dropped a reply"))
    with arena.traffic():
        # Ids are times: for the gateway this is a reply of the Redis before.
        for stream in streams:
            redis.xadd(stream, {"reply": "none"}, id=f"{int(time.time() + 3600) * 1000}-0")
        wait_for("it is read", lambda: len(arena.stack.gateway.log().split("dropped a reply")) > read)
        redis.flushall()
        measure(arena.serves_again(time.monotonic(), 30))


@pytest.mark.whole_chaos
@pytest.mark.fault(
    "Redis' clock is set back by an hour",
    "calls are answered; jobs run, those of a killed worker after a lease",
    within=10,
)
def test_the_brokers_clock_is_set_back(arena: Arena, measure: Measure, tmp_path: Path) -> None:
    clock = RedisClock(tmp_path)
    broker, worker = arena.stack.broker, arena.stack.workers[0]
    with clock.used_by(arena.stack):
        clock.shift(3600)
        arena.serves_again(time.monotonic(), 30)
        jobs = [arena.submit(question(number, sleep_seconds=0.5)) for number in range(arena.slots)]
        wait_for("jobs run", lambda: "running" in map(arena.client.status, jobs))
        worker.kill()
        with arena.traffic():
            arena.stack.redis.delete(*arena.stack.redis.keys(keys.replies("*")))
            clock.shift(0)
            measure(arena.serves_again(time.monotonic(), 30))
            worker.start()
        for job in jobs:
            arena.wait_for_end(job, 40)
        assert broker.running


@pytest.mark.fault(
    "records, keys and counts are damaged", "each harms its own job, and is a dead letter; all others go on", within=10
)
def test_data_is_damaged(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_fail = True
    redis = arena.stack.redis
    redis.delete(keys.DEAD_LETTERS)
    with arena.traffic():
        waits = [arena.submit(question(number, sleep_seconds=0.6)) for number in range(2 * arena.slots)]
        bad = [arena.submit(question(number)) for number in range(4)]
        redis.set(keys.job(bad[0]), "no hash")
        redis.hset(keys.job(bad[1]), "status", "sleeping")
        redis.hset(keys.job(bad[2]), "expires_at", "soon")
        redis.hset(keys.job(bad[3]), "rows", "[[")
        redis.hset(keys.JOB_COUNTS, "succeeded", "many")
        redis.set(keys.idempotency("damaged"), "no job")
        damaged = time.monotonic()
        assert arena.client.submit(question(5), "damaged") is not None
        measure(arena.serves_again(damaged, 30))
        wait_for("all are named", lambda: redis.llen(keys.DEAD_LETTERS) >= 6)
        assert arena.stack.status("/metrics") == 200
        for job in waits:
            arena.wait_for_end(job, 30)
        for job in bad:
            wait_for("it has failed", partial(_has_failed, arena, job))
    redis.delete(keys.DEAD_LETTERS)
