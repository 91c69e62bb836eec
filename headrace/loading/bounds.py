"""Bounds on what an artifact unpacks to, enforced while it is read: a megabyte may unpack to gigabytes."""

import io
import mmap
from pathlib import Path
from typing import IO

from headrace.errors import ArtifactInvalid

CHECKED_EVERY_BYTES = 1_000_000
"""Bytes after which the memory of the process is looked at again."""

SLACK_BYTES = 200_000_000
"""Bytes of memory beyond the bound that a load may take for a while: buffers, imports, other threads."""


UNBOUNDED = 1 << 50
"""Bytes that no artifact has, for reading without a bound."""


class BoundedStream(io.RawIOBase):
    """A binary stream of which a limited number of bytes can be read, while the process takes limited memory.

    The first bound holds for bytes, wherever these come from: a decompressor, or the same place again and again. The
    second one holds for what is built from them: a byte of a pickle can become a set of 216 bytes.
    """

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        """Read from `stream`; `max_bytes` is the bound, also of what the process may take beyond its memory of now."""
        self._stream = stream
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._unchecked = 0
        self._most_private_bytes = _private_bytes() + max_bytes + SLACK_BYTES

    def require(self, n_bytes: int) -> None:
        """Check that so many bytes may still be read, before memory for them is allocated.

        Raises:
            ArtifactInvalid: if not.
        """
        if n_bytes > self._left:
            raise ArtifactInvalid(f"it unpacks to more than the {self._max_bytes:,} bytes that it may take")

    def read(self, n_bytes: int = -1) -> bytes:
        """Return the next bytes, all that are left if the number is negative.

        Raises:
            ArtifactInvalid: if these are more than may be read, or the process has taken too much memory.
        """
        limit = self._left + 1
        return self._counted(self._stream.read(min(n_bytes, limit) if n_bytes >= 0 else limit))

    def readline(self, _: int | None = -1) -> bytes:
        """Return the bytes up to the end of the line; errors as in `read`."""
        return self._counted(self._stream.readline(self._left + 1))

    def _counted(self, content: bytes) -> bytes:
        self.require(len(content))
        self._left -= len(content)
        self._unchecked += len(content)
        if self._unchecked >= CHECKED_EVERY_BYTES:
            self._unchecked = 0
            if _private_bytes() > self._most_private_bytes:
                raise ArtifactInvalid(f"it takes more memory than the {self._max_bytes:,} bytes that it may take")
        return content

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Tell whether `seek` works."""
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position, and return it; bytes that are read twice count twice."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._stream.tell()


def _private_bytes() -> int:
    """Return the bytes of memory that this process shares with no file; 0 where the system does not tell."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE
