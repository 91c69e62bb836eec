import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.observability.processes import ProcessesAsOne, live_children, memory_bytes
from tests.support.processes import wait_for
from tests.support.requirements import require

PARENT = """
import os, sys, time
def child(megabytes):
    if not os.fork():
        held = bytearray(megabytes * 1_000_000)
        os.write(1, b"!")
        time.sleep(60)
for megabytes in map(int, sys.argv[1:]):
    child(megabytes)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def needs_proc() -> None:
    require(sys.platform == "linux", "there is no /proc")


@contextmanager
def family(*megabytes: int) -> Iterator[int]:
    """Run a process with children that hold so many megabytes each, and yield its process id."""
    command = [sys.executable, "-c", PARENT, *map(str, megabytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout
            for _ in megabytes:
                assert parent.stdout.read(1) == b"!"
            yield parent.pid
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def values(parent: int) -> dict[str, float]:
    return {metric.name: metric.samples[0].value for metric in ProcessesAsOne(parent).collect()}


def test_dead_children_do_not_count_even_before_they_are_reaped() -> None:
    with family(1, 1) as parent:
        one, other = live_children(parent)
        os.kill(one, signal.SIGKILL)
        wait_for("one left", lambda: live_children(parent) == [other])


def test_memory_is_that_of_the_process_and_zero_once_it_is_gone() -> None:
    with family(1, 80) as parent:
        small, large = map(memory_bytes, live_children(parent))
        assert 70_000_000 < large - small < 90_000_000
        [first, _] = live_children(parent)
    wait_for("its end", lambda: memory_bytes(first) == memory_bytes(parent) == 0)


def test_a_family_is_shown_as_one_process() -> None:
    with family() as parent:
        alone = values(parent)
    with family(80, 80) as parent:
        together = values(parent)

    assert together.keys() == alone.keys()
    assert together["process_resident_memory_bytes"] > alone["process_resident_memory_bytes"] + 150_000_000
    assert together["process_start_time_seconds"] == pytest.approx(time.time(), abs=30)
    assert together["process_max_fds"] == alone["process_max_fds"], "it is the limit of each"
    assert together["process_open_fds"] < together["process_max_fds"]


SPIN = """
import os, time
for _ in range(3):
    if not os.fork():
        while time.process_time() < 0.3:
            pass
        os._exit(0)
for _ in range(3):
    os.wait()
time.sleep(60)
"""


def test_cpu_time_of_dead_children_stays_in_the_sum() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as parent:
        try:
            wait_for("its children", lambda: live_children(parent.pid))
            wait_for("their end", lambda: not live_children(parent.pid))
            # For a moment, dead children that are not reaped yet are in neither sum.
            wait_for("their time", lambda: values(parent.pid)["process_cpu_seconds"] > 0.7)
        finally:
            parent.kill()


def test_a_process_that_is_gone_has_no_metrics() -> None:
    with family() as parent:
        pass
    assert values(parent) == {}
