"""Private copies of artifacts, which are verified, and which nobody can change while they are read or used.

The files of a model store, and of the cache in front of a remote one, may be overwritten at any time, even by somebody
who can't sign. A large artifact is copied into a sealed memory file, whose arrays are mapped: so the pool children of a
worker share one copy.
"""

import fcntl
import glob
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from worker.model.load_journal import LoadJournal

logger = logging.getLogger(__name__)

MAPPED_BYTES_MIN = 16_000_000
"""Bytes of an artifact from which on it is mapped: of a smaller one, each process has a copy."""

READ_BYTES = 1 << 20
PICKLE_START = b"\x80"
"""First byte of an uncompressed pickle; no compression format begins with it."""


@contextmanager
def private_copy(
    store: ModelStore, manifest: Manifest, journal: LoadJournal | None = None
) -> Iterator[bytes | BinaryIO]:
    """Copy the artifact of a version, and check the digest of the copy.

    Args:
        store: The model store that holds the version.
        manifest: The manifest of the version.
        journal: The journal of the processes with which a large copy is shared; None shares with none.

    Yields:
        A sealed memory file if the artifact is an uncompressed joblib file of MAPPED_BYTES_MIN or more and the system
        has such files, otherwise bytes.

    Raises:
        ArtifactInvalid: if the artifact is missing, or has another digest than the manifest says.
        StoreUnavailable: if the store does not answer.
    """
    file = None
    if manifest.artifact.format == "joblib" and manifest.artifact.size_bytes >= MAPPED_BYTES_MIN:
        file = _memory_file(store, manifest, journal)
    if file is None:
        yield store.artifact(manifest)
        return
    with file:
        if file.peek(1).startswith(PICKLE_START):
            yield file
            return
        content = file.read()
    yield content


def _memory_file(store: ModelStore, manifest: Manifest, journal: LoadJournal | None) -> BufferedReader | None:
    """Return a sealed memory file with the artifact, open for reading; None if there can't be one.

    The children of a worker load a version at about the same time: one makes the file, the others wait and find it.
    """
    if not hasattr(os, "memfd_create"):
        return None
    name = f"headrace-{manifest.artifact.sha256}"
    with journal.exclusive() if journal else nullcontext():
        try:
            return _found_file(name, manifest) or _new_file(name, store, manifest)
        except OSError as error:
            logger.info("%s %s has no memory file: %s", manifest.name, manifest.version, error)
            return None


def _new_file(name: str, store: ModelStore, manifest: Manifest) -> BufferedReader:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as target:
            store.copy_artifact(manifest, target)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _seals())
        # Linux before 6.7 maps a sealed file only if it was opened for reading alone.
        return Path(f"/proc/self/fd/{descriptor}").open("rb")
    finally:
        os.close(descriptor)


def _found_file(name: str, manifest: Manifest) -> BufferedReader | None:
    """Return the memory file of another process, which keeps it open while its arrays are in use; None without one."""
    # Path.glob would raise if a process ended meanwhile.
    for link in map(Path, glob.iglob("/proc/[0-9]*/fd/*")):  # noqa: PTH207
        with suppress(OSError):
            if str(link.readlink()).startswith(f"/memfd:{name} "):
                file = link.open("rb")
                if _is_intact(file, manifest):
                    return file
                file.close()
    return None


def _is_intact(file: BufferedReader, manifest: Manifest) -> bool:
    """Return True if a file can't be changed any more, and has the size and digest of the manifest."""
    is_sealed = fcntl.fcntl(file, fcntl.F_GET_SEALS) & _seals() == _seals()
    if not is_sealed or os.fstat(file.fileno()).st_size != manifest.artifact.size_bytes:
        return False
    digest = hashlib.sha256()
    while part := file.read(READ_BYTES):
        digest.update(part)
    file.seek(0)
    return digest.hexdigest() == manifest.artifact.sha256


def _seals() -> int:
    return fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
