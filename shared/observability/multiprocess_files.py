"""The files in which a process counts for others to add up: prometheus-client's format, but safe on a full disk.

prometheus-client makes a file longer without having blocks for it, and maps it. If the file system is full, the first
write to a new page then ends the process with SIGBUS. Here blocks are allocated first. Values for which there are none
stay in memory, and are written once there is room.

A file is a sequence of entries: length of the key, key (JSON), value, time.
"""

import logging
import mmap
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shared.observability.log_limit import LogLimit

logger = logging.getLogger(__name__)

HEADER_BYTES = 8
STEP_BYTES = 1 << 14
"""Bytes by which a file grows: small, because they are allocated whether or not they are used."""

RETRY_SECONDS = 5.0
"""Time between two tries to allocate blocks."""

_length = struct.Struct("i")
_value_and_time = struct.Struct("dd")

_outages = LogLimit(1, 60.0)


class CountFile:
    """A mapping from keys to values and times, which is kept in a file as far as there is room for it.

    It takes the place of prometheus-client's `MmapedDict`, whose callers hold a lock.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file: BinaryIO | None = None
        self._map: mmap.mmap | None = None
        self._used = HEADER_BYTES
        self._positions: dict[str, int] = {}
        self._beyond: dict[str, tuple[float, float]] = {}
        """The values without a place in the file."""
        self._retry_at = float("-inf")

    def read_value(self, key: str) -> tuple[float, float]:
        """Return value and time of a key, which gets a place at 0 if it is new."""
        position = self._positions.get(key) or self._place(key)
        if not position or self._map is None:
            return self._beyond.setdefault(key, (0.0, 0.0))
        value, at = _value_and_time.unpack_from(self._map, position)
        return value, at

    def write_value(self, key: str, value: float, at: float) -> None:
        """Set value and time of a key."""
        position = self._positions.get(key) or self._place(key)
        if position and self._map is not None:
            # An assignment is one copy, which a reader can't see in part.
            self._map[position : position + 16] = _value_and_time.pack(value, at)
        else:
            self._beyond[key] = value, at

    def close(self) -> None:
        """Close the file."""
        if self._map is not None:
            self._map.close()
        if self._file is not None:
            self._file.close()
        self._map = self._file = None

    def _place(self, key: str) -> int:
        """Write the values that have no place, and this key's; return its position, 0 if there is no room."""
        if time.monotonic() < self._retry_at:
            return 0
        try:
            if self._map is None:
                self._open()
            for each in dict.fromkeys([*self._beyond, key]):
                if each not in self._positions:
                    self._append(each, *self._beyond.get(each, (0.0, 0.0)))
                self._beyond.pop(each, None)
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            end = _outages.admit()
            if end is not None:
                logger.warning("metrics: %s: %s; new counts stay in memory%s", self._path, error.strerror, end)
            return 0
        return self._positions[key]

    def _open(self) -> None:
        """Open the file, which may hold the counts of a process before this one."""
        if self._file is None:
            self._file = self._path.open("a+b")
        size = max(self._file.seek(0, os.SEEK_END), STEP_BYTES)
        _allocate(self._file, size)
        self._map = mmap.mmap(self._file.fileno(), size)
        (used,) = _length.unpack_from(self._map)
        try:
            self._positions = {key.decode(): position for key, position in entries(self._map, used)}
        except ValueError as error:
            logger.error("metrics: %s is corrupt, and counted anew: %s", self._path, error)
            used = 0
        self._used = max(used, HEADER_BYTES)
        self._map[:4] = _length.pack(self._used)

    def _append(self, key: str, value: float, at: float) -> None:
        assert self._file is not None and self._map is not None
        encoded = key.encode()
        # Padded, so that the value is aligned to 8 bytes.
        padded = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        entry = _length.pack(len(encoded)) + padded + _value_and_time.pack(value, at)
        end = self._used + len(entry)
        if end > len(self._map):
            size = -(-end // STEP_BYTES) * STEP_BYTES
            _allocate(self._file, size)
            self._map = mmap.mmap(self._file.fileno(), size)
        self._map[self._used : end] = entry
        # Readers look no further than this number says.
        self._map[:4] = _length.pack(end)
        self._used = end
        self._positions[key] = end - 16


def _allocate(file: BinaryIO, size: int) -> None:
    """Give a file of at least this size blocks for all of its bytes.

    Raises:
        OSError: if there is no room.
    """
    if sys.platform == "darwin":
        file.write(bytes(size - file.seek(0, os.SEEK_END)))
        file.flush()
    else:
        os.posix_fallocate(file.fileno(), 0, size)


def entries(data: bytes | mmap.mmap, used: int) -> Iterator[tuple[bytes, int]]:
    """Yield key and position of the value of each entry in the first `used` bytes of a file.

    Raises:
        ValueError: if they are no entries.
    """
    at = HEADER_BYTES
    while at < used:
        start = at + _length.size
        end = start + _length.unpack_from(data, at)[0] if start <= len(data) else len(data)
        # The key is padded, so that the value is aligned to 8 bytes.
        at = end + 8 - (end - at) % 8
        if end < start or at + _value_and_time.size > len(data):
            raise ValueError("an entry ends behind its end")
        yield data[start:end], at
        at += _value_and_time.size
