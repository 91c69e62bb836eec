"""Workers and their children are killed, frozen and stopped."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.arena import VISIBILITY_SECONDS, Arena, freeze, thaw
from tests.chaos.conftest import Measure
from tests.chaos.ledger import question
from tests.support.processes import wait_for


@pytest.mark.fault("SIGKILL of a pool child in the middle of a job", "it runs again, once; the others go on", within=2)
def test_a_child_is_killed(arena: Arena, measure: Measure) -> None:
    asked = question(3, sleep_seconds=0.6)
    with arena.traffic(submitters=1):
        job_id = arena.client.submit(asked)
        assert job_id is not None
        wait_for("the job runs", lambda: arena.client.status(job_id) == "running")
        # Which of the children has it can't be seen from here: all of one worker, then the other's if it was not there.
        killed = time.monotonic()
        for worker in arena.stack.workers:
            for pid in worker.children():
                os.kill(pid, signal.SIGKILL)
        ended = wait_for("the job ends", lambda: arena.client.look_up(job_id, wait_seconds=1), VISIBILITY_SECONDS)
        assert ended
        measure(time.monotonic() - killed - 0.6)
    assert arena.ledger.outcomes["succeeded"] >= 1


@pytest.mark.fault(
    "SIGKILL of a whole worker, children included", "others run its jobs again", within=VISIBILITY_SECONDS + 5
)
def test_a_worker_is_killed(arena: Arena, measure: Measure) -> None:
    with arena.traffic(), ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda n: arena.client.submit(question(n, sleep_seconds=0.4)), range(8)))
        wait_for("jobs run", lambda: any(arena.client.status(job) == "running" for job in jobs if job))
        killed = time.monotonic()
        arena.stack.workers[0].kill()
        for job in jobs:
            assert job is not None
            wait_for("the job ends", lambda job=job: arena.client.look_up(job, 1), VISIBILITY_SECONDS + 5)
        measure(time.monotonic() - killed)


@pytest.mark.fault(
    "SIGSTOP of a worker, SIGCONT later", "its jobs run elsewhere; what it finishes late is refused",
    within=VISIBILITY_SECONDS + 5,
)
def test_a_worker_is_frozen(arena: Arena, measure: Measure) -> None:
    frozen = arena.stack.workers[0]
    with arena.traffic(submitters=1):
        jobs = [arena.client.submit(question(n, sleep_seconds=0.4)) for n in range(6)]
        wait_for("jobs run", lambda: any(arena.client.status(job) == "running" for job in jobs if job))
        stopped = time.monotonic()
        freeze(frozen)
        for job in jobs:
            assert job is not None
            wait_for("the job ends", lambda job=job: arena.client.look_up(job, 1), VISIBILITY_SECONDS + 5)
        measure(time.monotonic() - stopped)
        thaw(frozen)
