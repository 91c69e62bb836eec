"""Verified copies of artifacts, and a cache of them on this machine: a remote store is asked for each once."""

import hashlib
import logging
import os
import re
import uuid
from pathlib import Path
from typing import BinaryIO

from headrace.errors import ArtifactInvalid, FileUnusable
from headrace.models.local_storage import regular_file_parts
from headrace.models.manifest import Artifact
from headrace.models.storage import Storage

logger = logging.getLogger(__name__)


class ArtifactCache:
    """A folder of bounded size. Where it vanishes, is full or was tampered with, lookups miss."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Use `folder`; if the files exceed `max_bytes` together, those that were read longest ago are removed."""
        self._folder = folder.expanduser()
        self._max_bytes = max_bytes

    def get(self, sha256: str, n_bytes: int) -> bytes | None:
        """Return the `n_bytes` bytes with this digest, after verifying it; None if they are not cached."""
        path = self._folder / sha256
        try:
            content = b"".join(regular_file_parts(path, n_bytes + 1))
            if hashlib.sha256(content).hexdigest() != sha256:
                logger.warning("%s does not have the digest that its name says, and is removed", path)
                path.unlink()
                return None
        except FileNotFoundError:
            return None
        except (OSError, FileUnusable) as error:
            logger.warning("artifact cache: %s", error)
            return None
        try:
            os.utime(path)
        except OSError as error:
            logger.debug("artifact cache: %s", error)
        return content

    def put(self, sha256: str, content: bytes) -> None:
        """Keep bytes whose digest was verified. A failure is logged, and the next `get` is a miss."""
        if len(content) > self._max_bytes:
            return
        draft = self._folder / f".{sha256}.{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                draft.write_bytes(content)
                draft.replace(self._folder / sha256)
            finally:
                draft.unlink(missing_ok=True)
            self._shrink(keep=sha256)
        except OSError as error:
            logger.warning("artifact cache: %s", error)

    def _shrink(self, keep: str) -> None:
        found = [(path.lstat(), path) for path in self._folder.iterdir() if re.fullmatch(r"[0-9a-f]{64}", path.name)]
        excess = sum(status.st_size for status, _ in found) - self._max_bytes
        for status, path in sorted(found, key=lambda each: each[0].st_mtime_ns):
            if excess > 0 and path.name != keep:
                path.unlink(missing_ok=True)
                excess -= status.st_size


def copy_verified(
    storage: Storage, path: str, artifact: Artifact, target: BinaryIO, cache: ArtifactCache | None = None
) -> None:
    """Copy an artifact from a storage, or from the cache in front of it, and compare the digest of the copy.

    Raises:
        ArtifactInvalid: if there is no such file, or it has another digest.
        FileUnusable: if it can't be read as a file.
        StoreUnavailable: if it can't be read.
    """
    if cache and (cached := cache.get(artifact.sha256, artifact.size_bytes)) is not None:
        target.write(cached)
        return
    digest = hashlib.sha256()
    part = b""
    try:
        # One byte more than the manifest says makes another digest: the rest of a longer file is not read.
        for part in storage.parts(path, artifact.size_bytes + 1):
            digest.update(part)
            target.write(part)
    except FileNotFoundError:
        raise ArtifactInvalid(f"{storage.location(path)}: there is no such file") from None
    check_digest(digest.hexdigest(), artifact.sha256, storage.location(path))
    if cache:
        # A remote storage has a single part.
        cache.put(artifact.sha256, part)


def check_digest(digest: str, expected: str, where: str) -> None:
    """Compare the SHA-256 of a file, in hexadecimal, with that of the manifest; `where` names the file in the error.

    The error does not show the digest. Who writes to the store may have put a link to any file in the place of this
    one, and the digests of ever longer parts of a file tell its content.

    Raises:
        ArtifactInvalid: if they differ.
    """
    if digest != expected:
        raise ArtifactInvalid(f"{where}: its SHA-256 is not the one that the manifest says, {expected[:12]}…")
