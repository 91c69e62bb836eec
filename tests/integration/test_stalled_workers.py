"""Workers that stop consuming end by themselves; healthy ones don't, whatever happens to them."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.arena import freeze, thaw
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import REPOSITORY, Process, wait_for
from tests.support.puppet import Act
from tests.support.stack import Stack
from worker.consumer.watchdog import EXIT_CODE

STALLED_SECONDS = 5.0
HANGING_LOOP = str(REPOSITORY / "tests" / "support" / "hanging_loop")


@pytest.fixture
def new_stalling_stack(new_stack: NewStack, puppet_models: Path) -> Callable[[int], Stack]:
    """Return a function that starts a stack of workers with a short patience."""

    def make(workers: int) -> Stack:
        return new_stack(
            puppet_models,
            workers=workers,
            DEFAULT_MODEL="puppet",
            WORKER_STALLED_SECONDS=f"{STALLED_SECONDS:g}",
            WORKER_DRAIN_SECONDS="1",
            WORKER_INTERACTIVE_SLOTS="0",
            PYTHONPATH=HANGING_LOOP,
        ).start()

    return make


def cancel(worker: Process, *queues: str) -> None:
    """Let a worker stop consuming from these queues, all or bulk; it lives on, and its event loop runs."""
    worker.signal(signal.SIGRTMIN + (len(queues) == 1))
    for queue in queues:
        wait_for(f"{queue} is cancelled", lambda queue=queue: f"Canceling queue {queue}" in worker.log())  # type: ignore[misc]


@pytest.mark.timeout(400)
def test_a_worker_that_stops_consuming_ends_and_its_successor_serves(
    new_stalling_stack: Callable[[int], Stack],
) -> None:
    stack = new_stalling_stack(3)
    stack.wait_for_slots(6)
    without_consumers, half, hanging = stack.workers

    cancel(without_consumers, "interactive", "bulk")
    cancel(half, "bulk")
    hanging.signal(signal.SIGRTMIN + 2)

    # Its children can't be asked for once it has ended.
    orphans = hanging.children()
    for worker in stack.workers:
        wait_for(f"{worker.name} ends", lambda worker=worker: not worker.running, 60)  # type: ignore[misc]
        assert worker.log().count("stalled: nothing was consumed for") == 1
        assert "Traceback" not in worker.log()
        # Only its children could remain in its group.
        assert worker.stop() == EXIT_CODE
    assert "hanging_loop" not in without_consumers.log()
    assert "at sitecustomize.py:" in hanging.log(), "it says where the event loop hung"
    assert not any(Path(f"/proc/{pid}").exists() for pid in orphans)
    job = stack.submit({"value": 1, "act": Act.ANSWER})

    for worker in stack.workers:
        worker.start()
    stack.wait_ready()
    assert stack.predict({"value": 1, "act": Act.ANSWER}).status_code == 200
    assert stack.outcome(job)["status"] == "succeeded"
    assert Scrape(f"{stack.url}/metrics").total("inference_workers_stalled_total") == 3


def test_healthy_workers_are_left_alone(new_stalling_stack: Callable[[int], Stack]) -> None:
    stack = new_stalling_stack(2)
    stack.wait_for_slots(4)
    pids = [worker.pid for worker in stack.workers]
    frozen, _ = stack.workers

    # One worker is frozen, and all children of the other are busy, both for longer than the limit.
    freeze(frozen)
    try:
        # Its last poll, in which Redis would still hand it a job, is over.
        wait_longer_than(2)
        jobs = []
        for _ in range(2):
            # One after another: together they would be one batch.
            jobs.append(stack.submit({"value": STALLED_SECONDS + 2, "act": Act.SLEEP}))
            stack.wait_running(jobs[-1])
        for job in jobs:
            assert stack.outcome(job)["status"] == "succeeded"
    finally:
        thaw(frozen)
    # Now no worker has a broker.
    stack.broker.stop()
    wait_longer_than(STALLED_SECONDS + 2)
    stack.start_broker()
    stack.wait_for_slots(4)

    assert [worker.pid for worker in stack.workers if worker.running] == pids
    assert not any("stalled" in worker.log() for worker in stack.workers)
    assert stack.predict({"value": 1, "act": Act.ANSWER}).status_code == 200


def wait_longer_than(seconds: float) -> None:
    since = time.monotonic()
    wait_for(f"{seconds:g} s have passed", lambda: time.monotonic() - since > seconds)
