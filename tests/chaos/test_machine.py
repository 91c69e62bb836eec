"""The machine itself fails: its disk is full, its network link is down. Needs root."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure
from tests.chaos.ledger import question
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.requirements import require

DISK_BYTES = 3_000_000
ROOM_BYTES = 24_000
NAMESPACE = f"headrace{os.getpid()}"
LINK = f"mr{os.getpid()}"[:13]
HOST, GUEST = "10.231.77.1", "10.231.77.2"

pytestmark = pytest.mark.whole_chaos


def run(*command: str) -> None:
    """Run a command of the system, or skip the row with the reason."""
    require(os.geteuid() == 0, f"needs root: {command[0]}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        require(False, f"needs {command[0]}")
        raise
    require(done.returncode == 0, f"{' '.join(command[:4])}: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))
    yield folder
    run("umount", str(folder))


@pytest.fixture
def on_small_disk(small_disk: Path, tmp_path: Path, puppet_models: Path) -> Iterator[Arena]:
    """An arena whose broker keeps its file on that file system."""
    yield from _played(Arena(tmp_path, puppet_models, workers=1, broker_folder=small_disk))


@pytest.fixture
def without_metrics(small_disk: Path, tmp_path: Path, puppet_models: Path) -> Iterator[Arena]:
    """An arena whose worker has room for some of its files of counts, and not for those of its children."""
    left = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    (small_disk / "filler").write_bytes(bytes(left - ROOM_BYTES))
    arena = Arena(tmp_path, puppet_models, workers=1)
    [worker] = arena.stack.workers
    worker.environment["PROMETHEUS_MULTIPROC_DIR"] = str(small_disk)
    yield from _played(arena)


@pytest.fixture
def linked(tmp_path: Path, puppet_models: Path) -> Iterator[Arena]:
    """An arena whose worker is in a network namespace of its own, at the other end of a link."""
    arena = Arena(tmp_path, puppet_models, workers=1)
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "link", "add", LINK, "type", "veth", "peer", "name", f"{LINK}p", "netns", NAMESPACE)
        run("ip", "address", "add", f"{HOST}/30", "dev", LINK)
        run("ip", "link", "set", LINK, "up")
        run("ip", "-n", NAMESPACE, "address", "add", f"{GUEST}/30", "dev", f"{LINK}p")
        run("ip", "-n", NAMESPACE, "link", "set", f"{LINK}p", "up")
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        stack = arena.stack
        stack.broker.command += ["--bind", "127.0.0.1", HOST, "--protected-mode", "no"]
        [worker] = stack.workers
        worker.command = ["ip", "netns", "exec", NAMESPACE, *worker.command]
        worker.environment["REDIS_URL"] = f"redis://{HOST}:{stack.broker_port}/0"
        yield from _played(arena)
    finally:
        # Deleting the namespace deletes the link.
        run("ip", "netns", "delete", NAMESPACE)


def _played(arena: Arena) -> Iterator[Arena]:
    try:
        arena.start()
        arena.begin()
        yield arena
    finally:
        arena.close()


@pytest.mark.fault("the disk of Redis' file is full for 3 s", "503 meanwhile; it resumes by itself", within=10)
def test_the_disk_is_full(on_small_disk: Arena, small_disk: Path, measure: Measure) -> None:
    arena, filler = on_small_disk, small_disk / "filler"
    pids = [process.pid for process in (arena.stack.broker, arena.stack.gateway, *arena.stack.workers)]
    with arena.traffic():
        # Redis writes meanwhile, so that there may be less room than was left.
        with suppress(OSError), filler.open("wb") as file:
            left = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
            file.write(bytes(left))
        wait_for("submissions are refused", lambda: arena.client.submit(question(1)) is None)
        until = time.monotonic() + 3
        wait_for("3 s", lambda: time.monotonic() > until)
        filler.unlink()
        measure(arena.serves_again(time.monotonic(), 30))
    arena.check()
    assert pids == [process.pid for process in (arena.stack.broker, arena.stack.gateway, *arena.stack.workers)]


@pytest.mark.fault(
    "a worker's metrics directory is full",
    "no process dies; it counts in memory, and writes it once there is room",
    within=10,
)
def test_the_metrics_directory_is_full(without_metrics: Arena, small_disk: Path, measure: Measure) -> None:
    arena = without_metrics
    [worker], [port] = arena.stack.workers, arena.stack.metrics_ports
    pids = [worker.pid, *worker.children()]

    def counted() -> bool:
        scrape = Scrape(f"http://127.0.0.1:{port}/metrics")
        name = "inference_predictions_total"
        return name in scrape.names and scrape.total(name, outcome="ok") > 0

    with arena.traffic():
        until = time.monotonic() + 3
        wait_for("3 s", lambda: time.monotonic() > until)
        assert not counted()
        (small_disk / "filler").unlink()
        freed = time.monotonic()
        wait_for("counts are back", counted)
        measure(time.monotonic() - freed)
    arena.check()
    assert pids == [worker.pid, *worker.children()]
    assert worker.log().count("new counts stay in memory") <= len(pids)


@pytest.mark.fault("the link between worker and broker is down for 20 s", "503 meanwhile; no hang, no crash", within=20)
def test_the_link_is_down(linked: Arena, measure: Measure) -> None:
    pid = linked.stack.workers[0].pid
    with linked.traffic():
        run("ip", "link", "set", LINK, "down")
        until = time.monotonic() + 20
        wait_for("20 s", lambda: time.monotonic() > until, 30)
        run("ip", "link", "set", LINK, "up")
        measure(linked.serves_again(time.monotonic(), 60))
    linked.check()
    assert linked.stack.workers[0].running and linked.stack.workers[0].pid == pid
