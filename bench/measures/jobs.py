"""Submitting and draining: single-row jobs against an endpoint that calls `delay()` and its Celery worker.

Each system takes submissions from 64 connections while no worker runs; then one worker (two children) starts on the
backlog. Draining is timed from a tenth to nine tenths of it, so the worker's start and the last stragglers don't count.
"""

import time
from collections.abc import Callable
from pathlib import Path

import redis

from bench.load import run_wrk
from bench.pace import Pace
from bench.systems import ONE_ROW, naive_celery
from shared.queue import keys
from shared.queue.contract import OUTCOMES
from tests.support.stack import Stack

CONNECTIONS = 64
DRAIN_SECONDS_MAX = 25.0
"""Seconds after which the rate of a slow worker is taken from what it has done until then."""


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return submissions and drained jobs per second of both systems."""
    ours, theirs = scratch / "jobs-headrace", scratch / "jobs-naive"
    submitted, drained = _headrace(ours, models, pace)
    naive_submitted, naive_drained = _naive(theirs, models, pace)
    return {
        "jobs.submitted_per_second": submitted,
        "jobs.delay_per_second": naive_submitted,
        "jobs.drained_per_second": drained,
        "jobs.naive_drained_per_second": naive_drained,
    }


def _headrace(folder: Path, models: Path, pace: Pace) -> tuple[float, float]:
    folder.mkdir()
    stack = Stack(folder, models, JOBS_OPEN_MAX="10000000")
    try:
        stack.start_broker()
        stack.gateway.start()
        stack.wait_for_gateway()
        run_wrk(f"{stack.url}/jobs", ONE_ROW, CONNECTIONS, pace.warm_up_seconds)
        seen = run_wrk(f"{stack.url}/jobs", ONE_ROW, CONNECTIONS, pace.backlog_seconds)
        assert not seen.errors, f"{seen.errors} submissions failed"
        backlog = stack.redis.zcard(keys.JOBS_OPEN)
        stack.workers[0].start()
        return seen.requests_per_second, _drain(backlog, lambda: _ended(stack.redis))
    finally:
        stack.close()


def _naive(folder: Path, models: Path, pace: Pace) -> tuple[float, float]:
    folder.mkdir()
    with naive_celery(folder, models, worker=False) as running:
        url = running.url.replace("/predict", "/jobs")
        run_wrk(url, running.body, CONNECTIONS, pace.warm_up_seconds)
        seen = run_wrk(url, running.body, CONNECTIONS, pace.backlog_seconds)
        assert not seen.errors, f"{seen.errors} submissions failed"
        with redis.Redis.from_url(running.redis_url) as broker:
            backlog = broker.llen("celery")
            running.processes[-1].start()
            # Each result is a key of its own, and nothing else creates keys while the queue is full.
            return seen.requests_per_second, _drain(backlog, lambda: backlog - broker.llen("celery"))


def _drain(backlog: int, ended: Callable[[], int]) -> float:
    """Return the jobs per second between a tenth and nine tenths of the backlog."""
    began: tuple[float, int] | None = None
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        now, count = time.monotonic(), ended()
        if began is None:
            began = (now, count) if count >= backlog / 10 else None
        elif count >= 0.9 * backlog or now - began[0] > DRAIN_SECONDS_MAX:
            return (count - began[1]) / (now - began[0])
        time.sleep(0.005)
    raise AssertionError("the backlog was not drained")


def _ended(broker: "redis.Redis") -> int:
    counts = broker.hmget(keys.JOB_COUNTS, [outcome.value for outcome in OUTCOMES])
    return sum(int(count or 0) for count in counts)
