"""A wall clock of a Redis that a test can set, while the clocks of all other processes go on."""

import mmap
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.requirements import require
from tests.support.stack import Stack

SOURCE = r"""
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *shift_seconds;

__attribute__((constructor)) static void open_shift(void)
{
    int file = open(getenv("CLOCK_SHIFT_FILE"), O_RDONLY);
    shift_seconds = mmap(NULL, sizeof *shift_seconds, PROT_READ, MAP_SHARED, file, 0);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec true_time;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &true_time);
    now->tv_sec = true_time.tv_sec + *shift_seconds;
    now->tv_usec = true_time.tv_nsec / 1000;
    return 0;
}
"""
"""A library that stands before libc: Redis reads the time with `gettimeofday` alone."""


class RedisClock:
    """The clock; it is right until it is shifted."""

    def __init__(self, folder: Path) -> None:
        """Compile the library in a folder."""
        require(shutil.which("cc") is not None, "there is no C compiler")
        self._library, self._file = folder / "clock.so", folder / "shift"
        (folder / "clock.c").write_text(SOURCE)
        command = ["cc", "-shared", "-fPIC", "-o", str(self._library), str(folder / "clock.c")]
        subprocess.run(command, check=True)
        self.shift(0)

    def shift(self, seconds: int) -> None:
        """Set the clock so many seconds ahead of the true time."""
        if not self._file.exists():
            self._file.write_bytes(bytes(mmap.PAGESIZE))
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))

    @contextmanager
    def used_by(self, stack: Stack) -> Iterator[None]:
        """Restart a stack's broker with this clock, and in the end with the true one."""
        added = {"LD_PRELOAD": str(self._library), "CLOCK_SHIFT_FILE": str(self._file)}
        stack.broker.stop()
        stack.broker.environment |= added
        stack.start_broker()
        try:
            yield
        finally:
            stack.broker.stop()
            for name in added:
                del stack.broker.environment[name]
            stack.start_broker()
