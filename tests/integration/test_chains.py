"""Pool children take batches themselves: nothing is lost when they die, and nothing else waits for it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.queue import keys
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.puppet import Act
from tests.support.stack import Stack

HELD = f"{keys.PREFIX}held:*"
HIGH = {"value": 1, "act": Act.ANSWER}
TAKEN = "that it had taken itself"


class Callers:
    """Callers that ask for one prediction after the other, and note the status codes of the answers."""

    def __init__(self, stack: Stack, n: int) -> None:
        self.statuses: Counter[int] = Counter()
        self._stack = stack
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(n)]

    def _run(self) -> None:
        while not self._ended.is_set():
            self.statuses[self._stack.predict(HIGH).status_code] += 1

    @contextmanager
    def calling(self) -> Iterator["Callers"]:
        for thread in self._threads:
            thread.start()
        try:
            wait_for("answers", lambda: self.statuses[200] >= 20)
            yield self
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join()


@pytest.fixture
def stack(new_stack: NewStack, puppet_models: Path) -> Stack:
    """Return a stack with one pool child."""
    options = {"DEFAULT_MODEL": "puppet", "WORKER_CONCURRENCY": "1", "PREDICT_DEADLINE_SECONDS": "30"}
    return new_stack(puppet_models, **options).start()


def batches(stack: Stack) -> float:
    return Scrape(f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics").total("inference_batch_rows_count")


def test_the_callers_of_a_batch_that_a_dead_child_has_taken_are_told_at_once(stack: Stack) -> None:
    [worker] = stack.workers
    with Callers(stack, 2).calling() as callers:

        def killed_in_a_chain() -> bool:
            answer = stack.predict({"value": 1, "act": Act.DIE})
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:headrace:problem:worker_lost")
            assert answer.elapsed.total_seconds() < 10
            wait_for("a new child", lambda: stack.predict(HIGH).status_code == 200)
            return TAKEN in worker.log()

        wait_for("a child that dies with a batch of its own", killed_in_a_chain, 300)
    # Others may have been in the same batch.
    assert callers.statuses.keys() <= {200, 503}
    assert stack.redis.keys(HELD) == []


def test_jobs_do_not_wait_for_chains(stack: Stack) -> None:
    with Callers(stack, 4).calling() as callers:
        for _ in range(5):
            assert stack.outcome(stack.submit(HIGH))["status"] == "succeeded"
    assert callers.statuses.keys() == {200}


def test_a_worker_that_stops_ends_its_chains(stack: Stack) -> None:
    [worker] = stack.workers
    with Callers(stack, 4).calling() as callers:
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 10
        worker.start()
        answered = callers.statuses[200]
        wait_for("answers by the new worker", lambda: callers.statuses[200] > answered + 20)
    assert callers.statuses.keys() == {200}
    assert stack.redis.keys(HELD) == []


def test_a_broker_that_comes_back_costs_no_chain_its_batches(stack: Stack) -> None:
    with Callers(stack, 4).calling() as callers:
        stack.broker.kill()
        stack.start_broker()
        answered = callers.statuses[200]
        wait_for("answers by the new broker", lambda: callers.statuses[200] > answered + 20)
    assert callers.statuses.keys() <= {200, 503}
    wait_for("nothing is held", lambda: stack.redis.keys(HELD) == [])


def test_few_batches_pass_the_main_process(stack: Stack) -> None:
    def tasks() -> int:
        """Return the number of entries that main processes have recorded."""
        stats: Any = stack.redis.info("commandstats")
        return int(stats["cmdstat_zadd"]["calls"])

    with Callers(stack, 4).calling():
        batches_before, tasks_before = batches(stack), tasks()
        wait_for("many batches", lambda: batches(stack) > batches_before + 200)
        assert 2 * (tasks() - tasks_before) < batches(stack) - batches_before
