"""Two gateway processes behind one port."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from headrace.models.manifest import Manifest
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.stack import Stack

OK = {"lane": "interactive", "outcome": "ok"}


@pytest.fixture
def stack_of_two(new_stack: NewStack, iris_models: Path, tmp_path: Path) -> Stack:
    counts = tmp_path / "counts"
    counts.mkdir()
    return new_stack(iris_models, GATEWAY_PROCESSES="2", TMPDIR=str(counts))


@pytest.fixture
def stack(stack_of_two: Stack) -> Stack:
    return stack_of_two.start()


def processes(stack: Stack) -> list[int]:
    """Return the ids of the gateway processes that serve; the supervisor has another child, Python's own."""

    def serves(pid: int) -> bool:
        try:
            return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    return [pid for pid in stack.gateway.children() if serves(pid)]


def wait_for_slots(stack: Stack) -> None:
    """Wait until both processes know the workers: a process that is just starting might not be asked."""

    wait_for("two processes that know the workers", lambda: both(stack, "/readyz"))


def both(stack: Stack, path: str) -> bool:
    """Return True if each of two processes answers 200 on a path."""
    found = processes(stack)
    return len(found) == 2 and all(answers(stack, pid, path) for pid in found)


def answers(stack: Stack, pid: int, path: str) -> bool:
    with only(stack, pid):
        try:
            return httpx.get(f"{stack.url}{path}", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def only(stack: Stack, pid: int) -> Iterator[None]:
    """Stop all processes but one while the context lasts, for less than the supervisor's patience."""
    others = [other for other in processes(stack) if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def row(iris: Manifest) -> dict[str, Any]:
    return dict(zip((feature.name for feature in iris.features), iris.samples[0].row, strict=True))


def send(stack: Stack, content: dict[str, Any], connections: int, each: int) -> None:
    """Send this many predictions on each of the connections."""

    def caller(_: int) -> None:
        with httpx.Client(base_url=stack.url, timeout=60, trust_env=False) as client:
            for _ in range(each):
                assert client.post("/predict", json=content).status_code == 200

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(caller, range(connections)))


def counts_of_all(stack: Stack, pid: int, requests: int) -> Scrape | None:
    """Return what one process shows once that has so many requests: each writes its counts twice a second."""
    with only(stack, pid):
        shown = scrape(stack)
    return shown if shown.total("inference_requests_total", **OK) == requests else None


def scrape(stack: Stack) -> Scrape:
    return Scrape(f"{stack.url}/metrics")


def test_whichever_process_is_asked_shows_the_requests_of_both(stack: Stack, iris: Manifest, tmp_path: Path) -> None:
    wait_for_slots(stack)
    content = row(iris)
    one, other = processes(stack)

    with only(stack, one):
        send(stack, content, connections=10, each=10)
    with only(stack, other):
        send(stack, content, connections=10, each=20)
    send(stack, content, connections=40, each=10)

    for pid in (one, other):
        told = wait_for(f"process {pid} knows the counts of both", partial(counts_of_all, stack, pid, 700))
        assert told.total("inference_http_requests_total", route="/predict", status="200") == 700
        assert told.total("inference_request_duration_seconds_count", lane="interactive") == 700
        assert told.total("inference_request_duration_seconds_bucket", lane="interactive", le="+Inf") == 700
        assert told.total("inference_requests_in_progress") == 0
        assert told.total("inference_worker_slots") == 2, "read from Redis, and not added up"
        assert told.total("inference_jobs_accepted_total") == 0
        assert "pid" not in "".join(told.text), "no series per process"


def test_a_killed_process_is_replaced_and_the_counts_go_on(stack: Stack, iris: Manifest, tmp_path: Path) -> None:
    wait_for_slots(stack)
    content, before = row(iris), processes(stack)
    stop = Event()

    def caller(_: int) -> tuple[int, int]:
        """Return the number of answers and of broken connections."""
        answered = broken = 0
        while not stop.is_set():
            try:
                answer = httpx.post(f"{stack.url}/predict", json=content, timeout=60, trust_env=False)
            except httpx.TransportError:
                broken += 1
                continue
            assert answer.status_code == 200, answer.text
            answered += 1
        return answered, broken

    seen: list[float] = []

    def replaced() -> bool:
        try:
            seen.append(scrape(stack).total("inference_requests_total", **OK))
        except httpx.TransportError:
            return False
        now = processes(stack)
        return len(now) == 2 and before[0] not in now

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(caller, number) for number in range(4)]
        try:
            wait_for("some answers", lambda: scrape(stack).total("inference_requests_total", **OK) > 50)
            os.kill(before[0], signal.SIGKILL)
            wait_for("a new process", replaced)
            wait_for_slots(stack)
            replaced()
        finally:
            stop.set()
    answered = sum(future.result()[0] for future in callers)
    broken = sum(future.result()[1] for future in callers)

    assert seen == sorted(seen), "counters never fall"
    assert broken <= 4, "what the killed process was asked"
    for pid in processes(stack):
        with only(stack, pid):
            told = scrape(stack)
        # Of the requests at the moment of the kill, some may be counted and not answered, or the reverse.
        assert abs(told.total("inference_requests_total", **OK) - answered) <= 4
        assert told.total("inference_requests_in_progress") == 0, "none of the killed process"
    names = {path.stem.rsplit("_", 1)[-1] for path in (tmp_path / "counts").glob("headrace-gateway-*/*")}
    assert names == {"shard0", "shard1"}


def test_a_signal_ends_all_processes_and_leaves_nothing_behind(stack: Stack, iris: Manifest, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        if not stack.gateway.running:
            stack.gateway.start()
        wait_for_slots(stack)
        for pid in processes(stack):
            with only(stack, pid):
                send(stack, row(iris), connections=1, each=1)
        assert len(list(stack.redis.scan_iter("*repl*"))) == 2

        stack.gateway.signal(number)

        wait_for("the gateway ends", lambda: not stack.gateway.running)
        assert stack.gateway.stop() == 0
        assert list((tmp_path / "counts").glob("headrace-gateway-*")) == []
        assert list(stack.redis.scan_iter("*repl*")) == [], "each deletes its reply stream"
    assert "Traceback" not in stack.gateway.log()


def test_processes_do_not_outlive_a_killed_supervisor(stack_of_two: Stack) -> None:
    stack = stack_of_two
    stack.start_without_workers()
    wait_for("two processes that serve", lambda: both(stack, "/livez"))
    left = processes(stack)

    stack.gateway.signal(signal.SIGKILL)

    wait_for("their end", lambda: not any(alive(pid) for pid in left))
    assert stack.status("/livez") == 0


def alive(pid: int) -> bool:
    """Return True if the process lives. A zombie is dead, and remains until it is reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_wrong_store_is_said_once_and_ends_it(new_stack: NewStack, tmp_path: Path) -> None:
    stack = new_stack(tmp_path / "nothing", workers=0, GATEWAY_PROCESSES="2")
    stack.start_broker()

    stack.gateway.start()

    wait_for("its end", lambda: not stack.gateway.running)
    assert stack.gateway.stop() != 0
    assert stack.gateway.log().count("headrace:") == 1
