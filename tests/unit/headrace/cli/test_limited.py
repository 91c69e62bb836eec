"""Work in a process of its own: its answers, its limit of time, and all that it may leave behind."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.limited import within
from headrace.errors import ArtifactInvalid, HeadraceError

LONG = 600.0

UNTIL_ENDED = """
import sys, time
from headrace.cli import limited
limited.ORPHANED_SECONDS = float(sys.argv[1]) - 600
def work():
    print("started", flush=True)
    while True:
        time.sleep(600)
limited.within(600, "x", work)
"""


def in_native_code() -> int:
    """Hold the interpreter's lock, so that no handler of a signal runs."""
    return sum(range(10**13))


@pytest.fixture
def held() -> Iterator[tuple[int, int]]:
    """The ends of a pipe, whose reader sees its end when no process has the other end any more."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def assert_closed(reader: int, writer: int) -> None:
    os.close(writer)
    assert select.select([reader], [], [], 60)[0], "a process still has the pipe"
    assert os.read(reader, 1) == b""


def test_the_value_of_the_work_is_returned() -> None:
    assert within(LONG, "x", lambda: {"rows": 3, "texts": ["\udc80" * 100_000]}) == {
        "rows": 3,
        "texts": ["\udc80" * 100_000],
    }


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ArtifactInvalid("m v1: it can't be loaded"), "m v1: it can't be loaded"),
        (FileNotFoundError(2, "No such file or directory", "m.joblib"), "m.joblib: No such file or directory"),
    ],
)
def test_an_error_of_the_work_is_one_of_headrace(error: Exception, text: str) -> None:
    def work() -> None:
        raise error

    with pytest.raises(HeadraceError) as caught:
        within(LONG, "x", work)
    assert str(caught.value) == text


def test_native_code_that_does_not_end_is_ended(held: tuple[int, int]) -> None:
    with pytest.raises(HeadraceError, match=r"^m v1: it takes longer than 0\.5 s, and was ended \(--timeout\)$"):
        within(0.5, "m v1", in_native_code)
    assert_closed(*held)


def test_processes_that_the_work_has_started_are_ended_too(held: tuple[int, int]) -> None:
    def work() -> int:
        return subprocess.Popen(["sleep", "600"], pass_fds=[held[1]]).pid

    assert within(LONG, "x", work) > 0
    assert_closed(*held)


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "by signal 9 (Killed)"),
        (lambda: sys.exit(0), "with exit code 0 and no answer"),
        (lambda: os._exit(3), "with exit code 3 and no answer"),
    ],
)
def test_a_process_that_ends_without_an_answer_is_an_error(end: Any, cause: str) -> None:
    with pytest.raises(HeadraceError) as caught:
        within(LONG, "m v1", end)
    assert str(caught.value) == f"m v1: its process ended {cause}"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_command_that_is_stopped_leaves_no_process(number: signal.Signals, code: int) -> None:
    assert stopped(number, orphaned_seconds=LONG) == code


def test_a_command_that_is_killed_leaves_no_process_for_long() -> None:
    stopped(signal.SIGKILL, orphaned_seconds=5)


def stopped(number: signal.Signals, orphaned_seconds: float) -> int:
    """Stop a command, see both of its processes end, and return its exit code."""
    command = [sys.executable, "-c", UNTIL_ENDED, str(orphaned_seconds)]
    # A shell that runs the tests in the background has SIGINT ignored, and so would the command.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[4]
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(number)
        # The stream ends when both processes have.
        assert process.communicate(timeout=60)[0] == b""
    return process.returncode


def test_the_handler_of_the_caller_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)

    within(LONG, "x", lambda: 1)

    assert signal.getsignal(signal.SIGTERM) is before
