"""Large artifacts as files that can be mapped, so that the children of a pool share the pages of one copy.

A mapped file must not be written into: whoever replaces one renames another over it, as the store and the cache do.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore

MAPPED_BYTES_MIN = 16_000_000
"""Artifacts below are read: a copy of them costs less than finding out what can be mapped."""

CHUNK_BYTES = 1 << 20
PICKLE_START = b"\x80"
"""No compressed artifact begins so."""


def worth_mapping(manifest: Manifest) -> bool:
    """Whether an artifact is large, and of a format that can be mapped."""
    return manifest.artifact.format == "joblib" and manifest.artifact.size_bytes >= MAPPED_BYTES_MIN


@contextmanager
def verified_file(store: ModelStore, manifest: Manifest) -> Iterator[BinaryIO | None]:
    """The open file of an artifact that is worth mapping, after its digest was found to be the manifest's.

    None if it is small, compressed, of another format or not on this machine, and if the digest differs: then
    `ModelStore.artifact` fetches another copy or says what is wrong.
    """
    file = _opened(store, manifest)
    if file is None:
        yield None
        return
    with file:
        # The descriptor, not the name, is what was verified: the name may mean another file a moment later.
        yield file if _fits(file, manifest) else None


def _opened(store: ModelStore, manifest: Manifest) -> BinaryIO | None:
    if not worth_mapping(manifest):
        return None
    try:
        path = store.artifact_file(manifest)
        return path.open("rb") if path else None
    except OSError:
        return None


def _fits(file: BinaryIO, manifest: Manifest) -> bool:
    if file.read(len(PICKLE_START)) != PICKLE_START:
        return False
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest() == manifest.artifact.sha256
