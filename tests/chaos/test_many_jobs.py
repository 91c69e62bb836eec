"""Very many jobs while processes are killed: as many outcomes and records as jobs, and equal counters."""

import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import redis
from sklearn.linear_model import LinearRegression

from headrace import export
from headrace.models.store import ModelStore
from shared.queue import keys
from tests.chaos import kills, oracle
from tests.chaos.census import TOLERANCE, Census
from tests.chaos.conftest import Measure, Remark
from tests.chaos.ledger import Lateness
from tests.chaos.seeds import SEEDS
from tests.chaos.submitter import Submitter
from tests.support.exposition import Scrape
from tests.support.processes import pause, wait_for
from tests.support.stack import Stack

JOBS = int(os.environ.get("CHAOS_JOBS", "3000"))

QUIET_JOBS = min(JOBS // 10, 20_000)
"""The last jobs, during which nothing is killed: a killed process loses its counts."""

IN_A_KILL = 150
"""Jobs that are accepted at most after the number at which something is to be killed, before it is killed."""

KILL_EVERY_JOBS = 15_000
OPEN_AT_MOST = 20_000
"""Number of open jobs at which submitters wait: a backlog from an outage would remain long after it."""

LOOKED_UP = 500
"""Number of jobs that are also looked up over HTTP."""

TASK_TIME_LIMIT_SECONDS = 2.0
PROGRESS_SECONDS = 5.0
MODEL = "echo"
OPTIONS = {
    "DEFAULT_MODEL": MODEL,
    "TASK_SOFT_TIME_LIMIT_SECONDS": "1",
    "TASK_TIME_LIMIT_SECONDS": f"{TASK_TIME_LIMIT_SECONDS:g}",
    # No job here kills its process, so none may end because it met three kills.
    "JOB_MAX_ATTEMPTS": "50",
}

Kill = Callable[[Stack, random.Random], None]
KILLS: list[Kill] = [kills.kill_a_worker, kills.kill_the_broker, kills.kill_a_child, kills.kill_the_gateway]


def prediction(number: int) -> float:
    """Return the model's answer to job n, which no other job has."""
    return 2.0 * number + 1.0


def body(number: int) -> bytes:
    """Return the request of job n."""
    return b'{"value":%d}' % number


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("echo")
    rows = np.linspace(0, JOBS, 20).reshape(-1, 1)
    targets = np.array([prediction(value) for value in rows[:, 0]])
    estimator = LinearRegression().fit(rows, targets)
    export(estimator, rows, targets, store=ModelStore(folder), name=MODEL, feature_names=["value"], scores={})
    return folder


@pytest.fixture
def stack(tmp_path: Path, models: Path) -> Iterator[Stack]:
    # The records of very many jobs would fill the memory.
    broker_folder = tmp_path if JOBS > 100_000 else None
    stack = Stack(tmp_path, models, workers=2, broker_folder=broker_folder, **OPTIONS)  # type: ignore[arg-type]
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def submitter(stack: Stack) -> Iterator[Submitter]:
    address = urlsplit(stack.url)
    lateness = Lateness()
    submitter = Submitter(str(address.hostname), int(address.port or 0), JOBS, body, lateness)
    yield submitter
    submitter.close()
    lateness.close()


@pytest.mark.timeout(180 + JOBS / 500)
@pytest.mark.parametrize("seed", [pytest.param(seed, id=f"{JOBS:,} jobs, seed {seed}") for seed in SEEDS])
@pytest.mark.fault(
    "children, workers, the gateway and Redis are killed while jobs come as fast as they are accepted",
    "as many outcomes, records and counts as jobs; each answer is the job's own; T: until all have ended",
    within=TASK_TIME_LIMIT_SECONDS + 5 + 13,
)
def test_many_jobs(seed: int, stack: Stack, submitter: Submitter, measure: Measure, remark: Remark) -> None:
    began = time.monotonic()
    stack.wait_for_slots(stack.concurrency * len(stack.workers))
    killed = _submit_while_things_are_killed(stack, submitter, random.Random(seed))
    measure(_wait_until_all_ended(stack))
    print(f"{time.monotonic() - began:7.1f} s  {submitter.accepted:,} jobs have ended, {killed} kills", flush=True)
    _hold_counters_of_quiet_times(stack, submitter)
    took = time.monotonic() - began
    _hold_records(stack, submitter)
    remark(f"{killed} kills, {JOBS / took:,.0f} jobs a second")
    _print_figures(stack, submitter, took)


def _submit_while_things_are_killed(stack: Stack, submitter: Submitter, chance: random.Random) -> int:
    """Kill processes when numbers of jobs that the seed determines are reached, each kind at least once.

    Return the count.
    """
    until = JOBS - QUIET_JOBS
    count = max(len(KILLS), JOBS // KILL_EVERY_JOBS)
    kinds = KILLS + [chance.choice(KILLS) for _ in range(count - len(KILLS))]
    due = deque(zip(sorted(chance.randrange(until // 20, until * 9 // 10) for _ in kinds), kinds, strict=True))
    submitter.pause_at = due[0][0] + IN_A_KILL
    with _submitting(submitter, range(until)) as done:
        progress = _Progress(stack, submitter)
        while not done():
            if due and submitter.accepted >= due[0][0]:
                _, kill = due.popleft()
                progress.tell(kill.__name__.replace("_", " "))
                kill(stack, chance)
            # Jobs come on while something is killed, but not so many that none is left for the next kill.
            submitter.pause_at = due[0][0] + IN_A_KILL if due else sys.maxsize
            # A worker ends if one of its children is killed before it has started.
            kills.start_what_ended(stack)
            submitter.paused = progress.open_jobs() > OPEN_AT_MOST
            progress.now_and_then()
            pause(0.1)
    assert not due, "the jobs were accepted faster than things were killed"
    return count


@contextmanager
def _submitting(submitter: Submitter, numbers: range) -> Iterator[Callable[[], bool]]:
    """Submit in a thread; yield a function that says whether the thread has finished."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(submitter.submit, numbers)
        try:
            yield running.done
        finally:
            if not running.done():
                submitter.stop()
            running.result()
    assert not submitter.violations, "\n".join(submitter.violations)


class _Progress:
    """The progress of a run, printed for the person who waits for it."""

    def __init__(self, stack: Stack, submitter: Submitter) -> None:
        self._stack = stack
        self._submitter = submitter
        self._began = self._reported = time.monotonic()
        self._accepted = 0

    def open_jobs(self) -> int:
        """Return the number of open jobs; 0 while the broker does not answer."""
        try:
            return int(self._stack.redis.zcard(keys.JOBS_OPEN))
        except redis.RedisError:
            return 0

    def now_and_then(self) -> None:
        """Print a line if the last one is a few seconds old."""
        now, accepted = time.monotonic(), self._submitter.accepted
        if now - self._reported >= PROGRESS_SECONDS:
            rate = (accepted - self._accepted) / (now - self._reported)
            self._reported, self._accepted = now, accepted
            self.tell(f"{accepted:,} accepted ({rate:,.0f}/s), {self.open_jobs():,} open")

    def tell(self, what: str) -> None:
        """Print one line."""
        print(f"{time.monotonic() - self._began:7.1f} s  {what}", flush=True)


def _wait_until_all_ended(stack: Stack) -> float:
    """Wait until all jobs have ended, and return the seconds that it took."""
    since = time.monotonic()
    wait_for("all jobs have ended", lambda: stack.jobs()["open"] == 0)
    return time.monotonic() - since


def _all_go_on(stack: Stack) -> bool:
    """Return True if all workers serve and none ends within 2 s.

    A worker of whose children one was killed before it had started ends only when it has said that it is ready.
    """
    wait_for("all serve", partial(_all_serve, stack))
    pids = [worker.pid for worker in stack.workers]
    pause(2)
    kills.start_what_ended(stack)
    return pids == [worker.pid for worker in stack.workers]


def _all_serve(stack: Stack) -> bool:
    kills.start_what_ended(stack)
    slots = stack.http.get("/health").json()["workers"]["slots"]
    metrics = [stack.status(f"http://127.0.0.1:{port}/metrics") for port in stack.metrics_ports]
    return slots == stack.concurrency * len(stack.workers) and set(metrics) == {200}


def _hold_counters_of_quiet_times(stack: Stack, submitter: Submitter) -> None:
    """Check that all processes have counted the same in the last part, in which none was killed.

    The server's own counts change with the records and are exact at all times. The counts of a gateway and of a worker
    start at 0 with the process, and a child counts after it has written the outcomes: jobs between these two steps of a
    killed child are missing.
    """
    wait_for("no worker ends any more", partial(_all_go_on, stack))
    urls = [f"{stack.url}/metrics", *(f"http://127.0.0.1:{port}/metrics" for port in stack.metrics_ports)]
    before, answers_before = Scrape(*urls), submitter.answers_202
    with _submitting(submitter, range(JOBS - QUIET_JOBS, JOBS)) as done:
        wait_for("the last jobs are accepted", done)
    _wait_until_all_ended(stack)
    expected = {
        "accepted by Redis": QUIET_JOBS,
        "ended by Redis": QUIET_JOBS,
        "answered by the gateway": submitter.answers_202 - answers_before,
        "ended by workers": QUIET_JOBS,
        "predicted by workers": QUIET_JOBS,
    }

    def counted() -> dict[str, float]:
        now = Scrape(*urls)
        return {
            "accepted by Redis": now.grown(before, "inference_jobs_accepted_total"),
            "ended by Redis": now.grown(before, "inference_jobs_ended_total", outcome="succeeded"),
            "answered by the gateway": now.grown(before, "inference_requests_total", lane="bulk", outcome="ok"),
            "ended by workers": now.grown(before, "inference_job_duration_seconds_count"),
            "predicted by workers": now.grown(before, "inference_predictions_total", outcome="ok"),
        }

    try:
        wait_for("the counters agree", lambda: counted() == expected)
    except AssertionError:
        assert counted() == expected


def _hold_records(stack: Stack, submitter: Submitter) -> None:
    """Check that the client knows as many jobs as there are records, outcomes and counts, each with its own answer."""
    census = Census(stack.redis, prediction)
    census.take(submitter.job_ids())
    assert not census.violations, "\n".join(census.violations)
    counts = {name: count for name, count in stack.jobs().items() if count}
    assert counts == {"accepted": JOBS, "succeeded": JOBS}
    assert (submitter.accepted, len(set(submitter.job_ids())), dict(census.statuses)) == (
        JOBS,
        JOBS,
        {"succeeded": JOBS},
    )
    print(f"           {census.repeats:,} executions beyond the first", flush=True)
    job_ids = list(submitter.job_ids())
    for number in range(0, JOBS, max(1, JOBS // LOOKED_UP)):
        view = stack.job(job_ids[number])
        assert view["status"] == "succeeded", view
        assert abs(view["result"]["prediction"] - prediction(number)) < TOLERANCE, (number, view)
    wait_for("nothing is left", lambda: not oracle.left_over(stack), oracle.SETTLE_SECONDS)


def _print_figures(stack: Stack, submitter: Submitter, took: float) -> None:
    memory: Any = stack.redis.info("memory")
    print(
        f"{JOBS:,} jobs in {took:.0f} s: {JOBS / took:,.0f}/s; {submitter.refused:,} refused, {submitter.broken:,} "
        f"broken off, {submitter.answers_202 - JOBS:,} sent again and found; the slowest answer after "
        f"{submitter.slowest_seconds:.2f} s; Redis holds {memory['used_memory'] / 1e6:,.0f} MB, "
        f"{memory['used_memory_peak'] / 1e6:,.0f} MB at its peak",
        flush=True,
    )
