"""Workers and their children are killed, frozen and stopped."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos.arena import VISIBILITY_SECONDS, Arena, freeze, thaw
from tests.chaos.conftest import Measure
from tests.chaos.ledger import deed, question
from tests.support.processes import Process, wait_for
from tests.support.puppet import Act

DRAIN_SECONDS = 20
PATIENT_SECONDS = 8.0
"""Deadline of calls that one worker can answer, however slow the machine is: none is refused because of the wait."""

NEIGHBOURS = 60


@pytest.mark.fault("SIGKILL of a pool child in the middle of a job", "it runs again; its neighbours succeed", within=2)
def test_a_child_is_killed(arena: Arena, measure: Measure) -> None:
    with arena.traffic():
        submitted = time.monotonic()
        # The job kills the child that runs it, the first time.
        job = arena.submit(deed(Act.DIE_ONCE, 1001))
        arena.wait_for_end(job, VISIBILITY_SECONDS)
        measure(time.monotonic() - submitted)
    view = arena.stack.job(job)
    assert (view["status"], view["attempt"]) == ("succeeded", 2)


@pytest.mark.fault(
    "SIGKILL of a whole worker, children included", "others run its jobs again", within=VISIBILITY_SECONDS + 5
)
def test_a_worker_is_killed(arena: Arena, measure: Measure) -> None:
    jobs = _sleepy_jobs_that_run(arena)
    with arena.traffic():
        killed = time.monotonic()
        arena.stack.workers[0].kill()
        for job in jobs:
            arena.wait_for_end(job, VISIBILITY_SECONDS + 5)
        measure(time.monotonic() - killed)


@pytest.mark.whole_chaos
@pytest.mark.fault(
    "SIGSTOP of a worker, SIGCONT when its jobs have run elsewhere",
    "outcomes that it writes late are refused",
    within=VISIBILITY_SECONDS + 5,
)
def test_a_worker_is_frozen(arena: Arena, measure: Measure) -> None:
    jobs = _sleepy_jobs_that_run(arena)
    with arena.traffic():
        stopped = time.monotonic()
        freeze(arena.stack.workers[0])
        for job in jobs:
            arena.wait_for_end(job, VISIBILITY_SECONDS + 5)
        measure(time.monotonic() - stopped)
        thaw(arena.stack.workers[0])
        arena.stack.wait_for_slots(arena.slots)


@pytest.mark.fault(
    f"a job that always kills its process, among {NEIGHBOURS} others",
    "it alone fails, as worker_lost, after 3 attempts",
    within=6,
)
def test_a_poisonous_job(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_fail = True
    questions = [question(n) for n in range(NEIGHBOURS)]
    questions.insert(NEIGHBOURS // 2, deed(Act.DIE, 1))
    with ThreadPoolExecutor(10) as pool:
        submitted = time.monotonic()
        jobs = list(pool.map(arena.submit, questions))
        for job in jobs:
            arena.wait_for_end(job, 30)
        measure(time.monotonic() - submitted)
    views = [arena.stack.job(job) for job in jobs]
    deadly = views.pop(NEIGHBOURS // 2)
    assert {view["status"] for view in views} == {"succeeded"}
    assert (deadly["status"], deadly["error"]["code"], deadly["attempt"]) == ("failed", "worker_lost", 3)


@pytest.mark.fault("a job that asks for more memory than there is", "it fails alone; no process dies", within=2)
def test_memory_runs_out(arena: Arena, measure: Measure) -> None:
    arena.ledger.jobs_may_fail = True
    children = [pid for worker in arena.stack.workers for pid in worker.children()]
    with arena.traffic():
        submitted = time.monotonic()
        job = arena.submit(deed(Act.EXHAUST_MEMORY, 1))
        arena.wait_for_end(job, 10)
        measure(time.monotonic() - submitted)
    assert arena.stack.job(job)["error"]["code"] == "prediction_failed"
    assert children == [pid for worker in arena.stack.workers for pid in worker.children()]


@pytest.mark.fault(
    "SIGTERM of one of two workers under load",
    "it ends by itself; no call fails, no job runs twice",
    within=DRAIN_SECONDS,
)
def test_a_worker_is_stopped(arena: Arena, measure: Measure) -> None:
    with arena.traffic(sleep_seconds=0.1, deadline_seconds=PATIENT_SECONDS):
        measure(_restart(arena, arena.stack.workers[0]))
    _nothing_failed(arena)


@pytest.mark.fault(
    "scaling in under load: SIGTERM of one of two workers, which stays away",
    "the other one takes over; no call fails, no job runs twice",
    within=DRAIN_SECONDS,
)
def test_a_worker_is_scaled_in(arena: Arena, measure: Measure) -> None:
    # Together they take less than the time limit, so none runs again because of it.
    jobs = _sleepy_jobs_that_run(arena, sleep_seconds=0.15)
    leaving, *left = arena.stack.workers
    with arena.traffic(sleep_seconds=0.1, deadline_seconds=PATIENT_SECONDS):
        asked_to_end = time.monotonic()
        assert leaving.stop(DRAIN_SECONDS + 5) == 0
        measure(time.monotonic() - asked_to_end)
        for job in jobs:
            arena.wait_for_end(job, VISIBILITY_SECONDS + 5)
        wait_for("the signal knows it", lambda: _signal(arena)["workers"] == len(left))
        assert _signal(arena)["busy_slots"] > 0
    _nothing_failed(arena)


@pytest.mark.whole_chaos
@pytest.mark.fault(
    "rolling restart of all workers under load", "no call fails, no job runs twice", within=DRAIN_SECONDS
)
def test_workers_are_restarted_one_by_one(arena: Arena, measure: Measure) -> None:
    with arena.traffic(sleep_seconds=0.1, deadline_seconds=PATIENT_SECONDS):
        measure(max(_restart(arena, worker) for worker in arena.stack.workers * 2))
    _nothing_failed(arena)


def _restart(arena: Arena, worker: Process) -> float:
    """Send SIGTERM to a worker and start it again; return the seconds until it ended."""
    started = time.monotonic()
    assert worker.stop(DRAIN_SECONDS + 5) == 0
    took = time.monotonic() - started
    worker.start()
    arena.stack.wait_for_slots(arena.slots)
    return took


def _signal(arena: Arena) -> dict[str, Any]:
    groups: list[dict[str, Any]] = arena.stack.http.get("/scaling").json()["worker_groups"]
    return groups[0]


def _nothing_failed(arena: Arena) -> None:
    calls = {answer: count for answer, count in arena.ledger.answers.items() if answer.startswith("predict")}
    assert set(calls) == {"predict 200"}, calls
    assert arena.ledger.repeats == 0


def _sleepy_jobs_that_run(arena: Arena, sleep_seconds: float = 0.8) -> list[str]:
    """Submit jobs, of which every worker has one in hand, and return their ids."""
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda n: arena.submit(question(n, sleep_seconds=sleep_seconds)), range(8)))
    # While there are calls, bulk may use one slot of each worker.
    wait_for("every worker has an entry", lambda: arena.stack.redis.hlen("unacked") >= len(arena.stack.workers))
    return jobs
