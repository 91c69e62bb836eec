"""CPU time that gateway, Redis and worker each spend on a request, a row and a job, and what Redis keeps of a job.

The times of the processes come from /proc, without the load generator, so other work on the machine hardly changes
them. Under more load, more rows share a batch: then a request costs the worker and Redis less.
"""

from pathlib import Path

import redis

from bench.load import run_wrk
from bench.measures.rows import BODY, ROWS
from bench.pace import Pace
from bench.resources import cpu_seconds
from bench.systems import ONE_ROW
from shared.queue import keys
from tests.support.processes import wait_for
from tests.support.stack import Stack

CONNECTIONS = 64
DRAINED_SECONDS_MAX = 300.0
"""Seconds in which a worker must have ended all jobs; on a busy machine it takes as long as the submissions."""


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return milliseconds of CPU time of each part, and bytes of a job."""
    folder = scratch / "cpu"
    folder.mkdir()
    stack = Stack(folder, models, JOBS_OPEN_MAX="10000000")
    try:
        stack.start()
        return {
            **_per_request(stack, "lone", ONE_ROW, 1, pace.seconds),
            **_per_request(stack, "request", ONE_ROW, CONNECTIONS, pace.seconds),
            **_per_request(stack, "thousand", BODY, 4, pace.seconds, ROWS),
            **_per_job(stack, pace.backlog_seconds),
        }
    finally:
        stack.close()


def _per_request(
    stack: Stack, name: str, body: bytes, connections: int, seconds: int, rows: int = 1
) -> dict[str, float]:
    run_wrk(f"{stack.url}/predict", body, connections, 1)
    before = _spent(stack)
    seen = run_wrk(f"{stack.url}/predict", body, connections, seconds)
    assert not seen.errors, f"{seen.errors} predictions failed"
    return _costs(name, before, _spent(stack), seen.requests_per_second * seconds * rows)


def _per_job(stack: Stack, seconds: int) -> dict[str, float]:
    """Submit without a worker, then let one drain the queue: what Redis holds is measured in between and at the end."""
    stack.workers[0].stop()
    run_wrk(f"{stack.url}/jobs", ONE_ROW, CONNECTIONS, 1)
    before, jobs_before, memory = _spent(stack), _jobs(stack.redis), _memory(stack.redis)
    seen = run_wrk(f"{stack.url}/jobs", ONE_ROW, CONNECTIONS, seconds)
    assert not seen.errors, f"{seen.errors} submissions failed"
    submitted, jobs = _spent(stack), _jobs(stack.redis) - jobs_before
    waiting = _memory(stack.redis) - memory
    backlog = stack.redis.zcard(keys.JOBS_OPEN)
    stack.workers[0].start()
    stack.wait_ready()
    started = _spent(stack)
    left = stack.redis.zcard(keys.JOBS_OPEN)
    wait_for("all jobs end", lambda: stack.redis.zcard(keys.JOBS_OPEN) == 0, DRAINED_SECONDS_MAX)
    return {
        **_costs("submission", before, submitted, jobs),
        **_costs("job", started, _spent(stack), left),
        "cpu.job_waiting_bytes": waiting / jobs,
        "cpu.job_ended_bytes": (_memory(stack.redis) - memory) / backlog,
    }


def _spent(stack: Stack) -> dict[str, float]:
    """Return the CPU seconds of each part since it started."""
    parts = {"gateway": stack.gateway, "redis": stack.broker, "worker": stack.workers[0]}
    return {name: cpu_seconds([process.pid]) for name, process in parts.items() if process.running}


def _costs(name: str, before: dict[str, float], after: dict[str, float], number: float) -> dict[str, float]:
    return {f"cpu.{name}_{part}_ms": 1000 * (after[part] - before[part]) / number for part in before.keys() & after}


def _jobs(broker: "redis.Redis") -> int:
    return int(broker.hget(keys.JOB_COUNTS, "accepted") or 0)


def _memory(broker: "redis.Redis") -> int:
    return int(broker.info("memory")["used_memory"])
