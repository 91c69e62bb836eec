"""Large artifacts as files that can be mapped into memory, so that pool children share the pages of one copy.

A mapped file must never be written to. The model store and the artifact cache replace a file by renaming another one.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore

MAPPED_BYTES_MIN = 16_000_000
"""Bytes of an artifact from which on it is mapped: a copy of a smaller one costs less than the check of the file."""

READ_BYTES = 1 << 20
PICKLE_START = b"\x80"
"""First byte of an uncompressed pickle; no compression format begins with it."""


def worth_mapping(manifest: Manifest) -> bool:
    """Return True if an artifact is large, and of a format that can be mapped."""
    return manifest.artifact.format == "joblib" and manifest.artifact.size_bytes >= MAPPED_BYTES_MIN


@contextmanager
def verified_file(store: ModelStore, manifest: Manifest) -> Iterator[BinaryIO | None]:
    """Open the file of an artifact that is worth mapping, and check its digest against the manifest.

    Yields:
        The file; None if the artifact is small, compressed, of another format or not on this machine, or its digest
        differs. `ModelStore.artifact` then fetches another copy, or raises an error with the reason.
    """
    file = _open(store, manifest)
    if file is None:
        yield None
        return
    with file:
        # The content is verified through the open file, because the name may stand for another file a moment later.
        yield file if _is_intact(file, manifest) else None


def _open(store: ModelStore, manifest: Manifest) -> BinaryIO | None:
    if not worth_mapping(manifest):
        return None
    try:
        path = store.artifact_file(manifest)
        return path.open("rb") if path else None
    except OSError:
        return None


def _is_intact(file: BinaryIO, manifest: Manifest) -> bool:
    """Return True if a file is an uncompressed pickle with the digest of the manifest."""
    if file.read(len(PICKLE_START)) != PICKLE_START:
        return False
    file.seek(0)
    digest = hashlib.sha256()
    while part := file.read(READ_BYTES):
        digest.update(part)
    file.seek(0)
    return digest.hexdigest() == manifest.artifact.sha256
