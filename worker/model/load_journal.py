"""A journal of the loads of a worker, in memory that outlives the pool child that loads."""

import fcntl
import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from headrace.errors import ArtifactInvalid
from headrace.models.manifest import Manifest

LOADS_MAX = 1000
"""Loads that the journal holds, the newest ones."""

RECORDS_AT, EXCLUSIVE_AT, PROCESSES_AT = 0, 1, 2
"""Positions of the locks: on the records, on `exclusive`, and on process id 0."""


class _Load(NamedTuple):
    pid: str
    name: str
    version: str
    sha256: str


class LoadJournal:
    """The loads that are in progress in the processes of a worker, and those during which a process died.

    The main process makes the journal before it forks, so that the children share it, and it ends with the worker. The
    kernel releases the locks of fcntl when their process dies, so a load is in progress while its process holds the
    lock at its own process id.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("headrace-loads", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        # Locks of fcntl exclude other processes only.
        self._thread_lock = threading.Lock()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no other process of the worker is inside this context."""
        with self._locked(EXCLUSIVE_AT):
            yield

    @contextmanager
    def noting(self, manifest: Manifest) -> Iterator[None]:
        """Note that this process loads a version, until the end of the context or of the process.

        Raises:
            ArtifactInvalid: if a process died while it loaded this artifact, as this version or as another one.
        """
        load = _Load(str(os.getpid()), manifest.name, manifest.version, manifest.artifact.sha256)
        with self._thread_lock, self._locked(RECORDS_AT):
            loads = self._read()
            if any(each.sha256 == load.sha256 and not self._is_in_progress(each) for each in loads):
                raise ArtifactInvalid(
                    f"{load.name} {load.version}: a process of this worker died while it loaded this artifact; it is "
                    "not loaded again until the worker restarts"
                )
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, PROCESSES_AT + os.getpid())
            self._write([*loads, load])
        try:
            yield
        finally:
            self.end_own()

    def end_own(self) -> None:
        """Remove the load of this process: it has ended, or does not matter because the process stops."""
        with self._thread_lock, self._locked(RECORDS_AT):
            self._write(each for each in self._read() if each.pid != str(os.getpid()))

    def forget(self, name: str, version: str) -> None:
        """Remove the loads of a version during which a process died, so that it is tried again."""
        with self._thread_lock, self._locked(RECORDS_AT):
            loads = self._read()
            self._write(each for each in loads if each[1:3] != (name, version) or self._is_in_progress(each))

    def _is_in_progress(self, load: _Load) -> bool:
        if load.pid == str(os.getpid()):
            return True
        at = PROCESSES_AT + int(load.pid)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except OSError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, at)
        return False

    @contextmanager
    def _locked(self, at: int) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, at)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, at)

    def _read(self) -> list[_Load]:
        lines = os.pread(self._file, os.fstat(self._file).st_size, 0).decode().splitlines()
        return [_Load(*line.split()) for line in lines]

    def _write(self, loads: Iterable[_Load]) -> None:
        content = "".join(f"{' '.join(each)}\n" for each in [*loads][-LOADS_MAX:]).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)
