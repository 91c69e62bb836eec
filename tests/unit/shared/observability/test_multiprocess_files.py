"""Files of counts: equal to prometheus-client's, and safe where the file system has no room for them."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict

from shared.observability import multiprocess_files
from shared.observability.log_limit import LogLimit
from shared.observability.multiprocess_files import RETRY_SECONDS, STEP_BYTES, CountFile
from tests.support.processes import REPOSITORY

KEYS = [f'["family", "family_total", {{"n": "{number}"}}, "ü"]' for number in range(1000)]


class Disk:
    """A file system that is full when a test says so, and the clock of those who wait for room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.now = 1000.0
        self.asked = 0
        self._allocate = os.posix_fallocate
        monkeypatch.setattr("shared.observability.multiprocess_files.os.posix_fallocate", self.allocate)
        monkeypatch.setattr("shared.observability.multiprocess_files.time.monotonic", lambda: self.now)

    def allocate(self, file: int, offset: int, size: int) -> None:
        self.asked += 1
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._allocate(file, offset, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


Opened = Callable[[str], CountFile]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A function that opens a file, which is closed after the test."""
    with ExitStack() as stack:

        def open_(path: str) -> CountFile:
            return stack.enter_context(closing(CountFile(path)))

        yield open_


def values(path: Path) -> dict[str, tuple[float, float]]:
    """Return what prometheus-client reads in a file."""
    read: Any = MmapedDict.read_all_values_from_file
    return {key: (value, at) for key, value, at, _ in read(str(path))}


def test_prometheus_client_reads_what_is_written(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "counter_slot0.db"
    file = opened(str(path))
    for number, key in enumerate(KEYS):
        assert file.read_value(key) == (0.0, 0.0)
        file.write_value(key, float(number), 0.5)
    file.write_value(KEYS[3], 7.0, 1.0)

    expected = {key: (float(number), 0.5) for number, key in enumerate(KEYS)} | {KEYS[3]: (7.0, 1.0)}
    assert values(path) == expected
    assert file.read_value(KEYS[3]) == (7.0, 1.0)
    assert path.stat().st_size % STEP_BYTES == 0


def test_every_byte_that_is_mapped_has_its_block(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "counter_slot0.db"
    file = opened(str(path))
    for key in KEYS:
        file.read_value(key)
        assert path.stat().st_blocks * 512 >= path.stat().st_size, "a hole ends the process that writes to it"


def test_a_successor_counts_on(opened: Opened, tmp_path: Path) -> None:
    path = str(tmp_path / "counter_slot0.db")
    first = opened(path)
    first.write_value(KEYS[0], 3.0, 0.0)
    first.close()

    second = opened(path)
    assert second.read_value(KEYS[0]) == (3.0, 0.0)
    second.write_value(KEYS[0], 4.0, 0.0)
    second.write_value(KEYS[1], 1.0, 0.0)

    assert values(tmp_path / "counter_slot0.db") == {KEYS[0]: (4.0, 0.0), KEYS[1]: (1.0, 0.0)}


@pytest.mark.parametrize("end", [b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x05\x00\x00\x00" + b"\xff" * 8])
def test_a_corrupt_file_of_a_predecessor_is_begun_anew(opened: Opened, tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "counter_slot0.db"
    path.write_bytes(b"\x40\x00\x00\x00" + bytes(4) + end + bytes(100))

    file = opened(str(path))
    file.write_value(KEYS[0], 1.0, 0.0)

    assert values(path) == {KEYS[0]: (1.0, 0.0)}


def test_without_room_from_the_start_values_stay_in_memory_until_there_is(
    opened: Opened, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess_files, "_outages", LogLimit(1, 60.0))
    path = tmp_path / "counter_slot0.db"
    disk.full = True
    file = opened(str(path))
    for key in KEYS[:3]:
        assert file.read_value(key) == (0.0, 0.0)
    for count in range(1, 100):
        file.write_value(KEYS[0], float(count), 0.0)
        assert file.read_value(KEYS[0]) == (float(count), 0.0)

    assert disk.asked == 1, "not tried anew with every count"
    assert [message.split(": ")[-1] for message in caplog.messages] == [
        "No space left on device; new counts stay in memory"
    ]
    disk.full = False
    disk.now += RETRY_SECONDS
    file.write_value(KEYS[0], 100.0, 0.0)
    assert values(path) == {KEYS[0]: (100.0, 0.0), KEYS[1]: (0.0, 0.0), KEYS[2]: (0.0, 0.0)}


def test_a_file_that_can_not_grow_keeps_counting_what_it_has(opened: Opened, tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "counter_slot0.db"
    file = opened(str(path))
    file.write_value(KEYS[0], 1.0, 0.0)
    disk.full = True
    for number, key in enumerate(KEYS):
        file.write_value(key, float(number + 2), 0.0)

    kept = values(path)
    assert 1 < len(kept) < len(KEYS)
    assert kept[KEYS[0]] == (2.0, 0.0)
    disk.full = False
    disk.now += RETRY_SECONDS
    file.write_value(KEYS[-1], 5.0, 0.0)
    assert len(values(path)) == len(KEYS)


def test_a_folder_that_is_gone_is_no_error(opened: Opened, tmp_path: Path) -> None:
    file = opened(str(tmp_path / "gone" / "counter_slot0.db"))
    file.write_value(KEYS[0], 1.0, 0.0)

    assert file.read_value(KEYS[0]) == (1.0, 0.0)


COUNT = """
import resource
from prometheus_client import Counter
from shared.observability.multiprocess import name_files_by

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
name_files_by(lambda: "slot0")
counter = Counter("c", "Help.", ["n"], registry=None)
for number in range(2000):
    counter.labels(str(number % 1000)).inc()
print(counter.labels("1")._value.get())
"""


def test_metrics_of_a_process_count_through_such_files(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COUNT], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )

    assert done.stdout == "2.0\n", done.stderr
    assert (tmp_path / "counter_slot0.db").stat().st_size == 0, "the kernel allowed no more than 1000 bytes"
