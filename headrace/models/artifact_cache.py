"""A cache of artifacts on this machine, by digest, so that each is fetched from a remote store once."""

import hashlib
import logging
import os
import re
import uuid
from pathlib import Path

logger = logging.getLogger(__name__)


class ArtifactCache:
    """A folder of bounded size. Where it vanishes, is full or was tampered with, lookups miss."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Use `folder`; if the files exceed `max_bytes` together, those that were read longest ago are removed."""
        self._folder = folder.expanduser()
        self._max_bytes = max_bytes

    def get(self, sha256: str) -> bytes | None:
        """Return the bytes with this digest, after verifying it; None if they are not cached."""
        path = self._folder / sha256
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                logger.warning("%s does not have the digest that its name says, and is removed", path)
                path.unlink()
                return None
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("artifact cache: %s", error)
            return None
        try:
            os.utime(path)
        except OSError as error:
            logger.debug("artifact cache: %s", error)
        return content

    def file(self, sha256: str) -> Path | None:
        """Return the file that should hold the bytes with this digest, unverified; None if there is none."""
        path = self._folder / sha256
        try:
            os.utime(path)
        except OSError:
            return None
        return path

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
        found = [(path.stat(), path) for path in self._folder.iterdir() if re.fullmatch(r"[0-9a-f]{64}", path.name)]
        excess = sum(status.st_size for status, _ in found) - self._max_bytes
        for status, path in sorted(found, key=lambda each: each[0].st_mtime_ns):
            if excess > 0 and path.name != keep:
                path.unlink(missing_ok=True)
                excess -= status.st_size
