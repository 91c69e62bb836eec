"""The invariants that hold after any fault: compares the ledger of the clients with the server's records.

I1 every accepted job reaches exactly one outcome, which never changes; I2 no accepted job is unknown;
I3 a caller is answered by the deadline + 250 ms; I4 each success is the model's answer; I5 every 5xx is a
problem+json, and 503 and 504 say when to retry; I6 the service is back within a bound (each row measures its own);
I7 executions beyond the first are counted; I8 no entry or job is left in hand, open, queued, or running.
"""

from functools import partial
from typing import Any

from shared.queue import keys
from shared.queue.contract import Lane
from tests.chaos.ledger import Ledger
from tests.chaos.traffic import Client
from tests.support.processes import Process, wait_for
from tests.support.stack import Stack

SETTLE_SECONDS = 30.0
"""Longest time in seconds after the last fault until everything has ended; longer than the rows' visibility timeout."""


def check(stack: Stack, ledger: Ledger, accepted_before: int) -> None:
    """Wait until all accepted jobs have ended, then check the invariants on the remaining state.

    Raises:
        AssertionError: With every violation that was found.
    """
    client = Client(stack.url, ledger)
    try:
        _settle(client, ledger)
        for job_id, status in list(ledger.ended):
            now = client.status(job_id)
            if now is None and job_id in ledger.perhaps_forgotten:
                continue
            if now != status and not ledger.jobs_may_vanish:
                ledger.violated("I1", f"job {job_id} had ended as {status}, and now is {now}")
    finally:
        client.close()
    _check_counts(stack, ledger, accepted_before)
    _check_left_over(stack, ledger)
    _check_kept_results(stack, ledger)
    assert not ledger.violations_count, "\n".join(
        [f"{ledger.violations_count} violations, the first:", *ledger.violations, _summary(ledger)]
    )


def _settle(client: Client, ledger: Ledger) -> None:
    def all_ended() -> bool:
        return all(client.look_up(job_id, wait_seconds=1) for job_id in list(ledger.open_jobs))

    try:
        wait_for("all accepted jobs end", all_ended, SETTLE_SECONDS)
    except AssertionError:
        for job_id in list(ledger.open_jobs):
            ledger.violated("I1", f"job {job_id} has not ended: it is {client.status(job_id)}")


def _check_counts(stack: Stack, ledger: Ledger, accepted_before: int) -> None:
    if ledger.jobs_may_vanish:
        return
    counts = stack.jobs()
    accepted = counts.pop("accepted")
    if accepted != sum(counts.values()):
        ledger.violated("I1", f"{accepted} accepted, but {counts}")
    fresh = accepted - accepted_before
    if not ledger.accepted <= fresh <= ledger.accepted + ledger.unsure:
        ledger.violated(
            "I2", f"the server accepted {fresh} jobs, clients know of {ledger.accepted}, unsure of {ledger.unsure}"
        )


def left_over(stack: Stack) -> dict[str, int]:
    """Return what is in hand, queued or open."""
    redis = stack.redis
    found = {"unacked": redis.hlen("unacked"), "unacked_index": redis.zcard("unacked_index")}
    found |= {lane.value: redis.llen(lane.value) for lane in Lane}
    found["open"] = redis.zcard(keys.JOBS_OPEN)
    return {name: count for name, count in found.items() if count}


def _check_kept_results(stack: Stack, ledger: Ledger) -> None:
    """Check that results and outcomes to come are counted right, and that each record is in an index."""
    redis: Any = stack.redis
    members = [member.decode().split() for member in redis.zrange(keys.JOB_RESULTS, 0, -1)]
    counted = int(redis.hget(keys.JOB_RESULT_COUNTS, "bytes") or 0)
    if counted != sum(int(size) for _, size in members):
        ledger.violated("I8", f"{counted} bytes of results are counted, and the members are {members}")
    for job_id, size in members:
        found = redis.hstrlen(keys.job(job_id), "outcome")
        if found not in (0, int(size)):
            ledger.violated("I8", f"the result of job {job_id} has {found} bytes, and {size} are counted")
    coming = int(redis.hget(keys.JOB_RESULT_COUNTS, "coming") or 0)
    if coming:
        ledger.violated("I8", f"no job is open, and outcomes of {coming} bytes are still to come")
    indexed = {
        id_ for name in redis.scan_iter(keys.job_index("all", "", 0)[:-1] + "*") for id_ in redis.lrange(name, 0, -1)
    }
    recorded = {name.removeprefix(keys.job("").encode()) for name in redis.scan_iter(keys.job("*"))}
    for job in recorded - indexed:
        ledger.violated("I2", f"job {job.decode()} is in no list of jobs")


def _check_left_over(stack: Stack, ledger: Ledger) -> None:
    try:
        wait_for("nothing is left", lambda: not left_over(stack), SETTLE_SECONDS)
    except AssertionError:
        ledger.violated("I8", f"left over: {left_over(stack)}")
    # A worker that a fault has just ended or started is forking its children at this moment.
    for worker in stack.workers:
        try:
            wait_for("it has all its children", partial(_is_whole, worker, stack.concurrency), SETTLE_SECONDS)
        except AssertionError:
            ledger.violated("I8", f"{worker.name} has {len(worker.children())} children, not {stack.concurrency}")


def _is_whole(worker: Process, children_count: int) -> bool:
    return not worker.running or len(worker.children()) == children_count


def _summary(ledger: Ledger) -> str:
    return f"answers {dict(ledger.answers)}, outcomes {dict(ledger.outcomes)}, repeats {ledger.repeats}"
