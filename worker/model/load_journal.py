"""A journal of the loads of a worker, in memory that outlives the pool child that loads."""

import fcntl
import hashlib
import os
import signal
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

NO_PROCESS = "0"
"""Process id in the record of a version that was loaded."""

NO_DIGEST = "-"
"""Digest in the record of a version that a process is going to load."""

IDENTITY = {"name", "version", "created_at", "description"}
"""Fields of a manifest that have no effect on a load."""

RECORDS_AT, EXCLUSIVE_AT, PROCESSES_AT = 0, 1, 2
"""Positions of the locks: on the records, on `exclusive`, and on process id 0."""


class _Load(NamedTuple):
    pid: str
    name: str
    version: str
    sha256: str
    """Digest of all that has an effect on the load: a copy of the artifact with other samples is another load."""

    @classmethod
    def of(cls, manifest: Manifest) -> "_Load":
        """Return the load of a version by this process."""
        content = manifest.model_dump_json(exclude=IDENTITY)
        sha256 = hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()
        return cls(str(os.getpid()), manifest.name, manifest.version, sha256)


class LoadJournal:
    """The versions that the processes of a worker have loaded or are loading, and those during whose load one died.

    The main process makes the journal before it forks, so that the children share it, and it ends with the worker. The
    kernel releases the locks of fcntl when their process dies, so a load is in progress while its process holds the
    lock at its own process id.

    A load may hold the interpreter's lock, so that nothing in its process could end it. Therefore the kernel ends the
    process if a load takes too long, by a timer and the default action of SIGALRM.
    """

    def __init__(self, load_seconds: float | None = None) -> None:
        """Begin with no loads; a process whose load takes longer than `load_seconds` ends, if there is such a limit."""
        self._load_seconds = load_seconds
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

        The process ends by SIGALRM if this takes too long.

        Raises:
            ArtifactInvalid: if a process died while it loaded this artifact, as this version or as another one.
        """
        load = _Load.of(manifest)
        with self._thread_lock, self._locked(RECORDS_AT):
            loads = self._read()
            if any(each.sha256 == load.sha256 and self._has_died(each) for each in loads):
                raise ArtifactInvalid(
                    f"{load.name} {load.version}: a process of this worker died while it loaded this artifact; it is "
                    "not loaded again until the worker restarts"
                )
            self._begin(load, loads)
        ended: list[_Load] = []
        try:
            with self._limited():
                yield
            ended = [load._replace(pid=NO_PROCESS)]
        finally:
            self._replace(load, ended)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """End this process if the context takes too long."""
        if self._load_seconds is None:
            yield
            return
        try:
            signal.setitimer(signal.ITIMER_REAL, self._load_seconds)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @contextmanager
    def first(self, name: str, version: str) -> Iterator[bool]:
        """Yield False if another process loads this or another version as the first, else note that this one will.

        A version that none has loaded before may end the processes that load it, or hold them up. However many there
        are, they thus do so to one process at a time.
        """
        load = _Load(str(os.getpid()), name, version, NO_DIGEST)
        with self._thread_lock, self._locked(RECORDS_AT):
            loads = self._read()
            known = any(each[:3] == (NO_PROCESS, name, version) for each in loads)
            tried = [each for each in loads if each.sha256 == NO_DIGEST or each[1:3] == (name, version)]
            may_load = known or not any(map(self._is_elsewhere, tried))
            if may_load:
                self._begin(load, loads)
        try:
            yield may_load
        finally:
            self._replace(load)

    def load_of(self, pid: int) -> str | None:
        """Return the name and version that a process was loading when it died; None if it was not loading any."""
        with self._thread_lock, self._locked(RECORDS_AT):
            loads = self._read()
        own = [each for each in loads if each.pid == str(pid) and each.sha256 != NO_DIGEST]
        return f"{own[-1].name} {own[-1].version}" if own else None

    def end_own(self) -> None:
        """Remove the loads of this process, which do not matter because it stops."""
        with self._thread_lock, self._locked(RECORDS_AT):
            self._write(each for each in self._read() if each.pid != str(os.getpid()))

    def forget(self, name: str, version: str) -> None:
        """Remove the loads of a version during which a process died, so that it is tried again."""
        with self._thread_lock, self._locked(RECORDS_AT):
            loads = self._read()
            self._write(each for each in loads if each[1:3] != (name, version) or self._is_in_progress(each))

    def _begin(self, load: _Load, others: Iterable[_Load]) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, PROCESSES_AT + os.getpid())
        self._write([*others, load])

    def _replace(self, load: _Load, by: Iterable[_Load] = ()) -> None:
        with self._thread_lock, self._locked(RECORDS_AT):
            self._write([*(each for each in self._read() if each != load and each not in by), *by])

    def _has_died(self, load: _Load) -> bool:
        return load.pid != NO_PROCESS and not self._is_in_progress(load)

    def _is_elsewhere(self, load: _Load) -> bool:
        return load.pid != str(os.getpid()) and self._is_in_progress(load)

    def _is_in_progress(self, load: _Load) -> bool:
        if load.pid == str(os.getpid()):
            return True
        if load.pid == NO_PROCESS:
            return False
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
