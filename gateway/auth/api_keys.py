"""API keys: a file with a line per key, which holds the hash of the key. `headrace new-key` makes lines.

    # owner    hash of the key   scopes         limit, in requests per second
    pricing    sha256:9f86d0…    predict,jobs   rate=50 burst=100

An owner may have several lines, so that a key can be replaced: add the new key, move the callers over, remove the old
line.
"""

import asyncio
import hashlib
import logging
import math
import os
import re
import secrets
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gateway.auth.rate_limit import TokenBucket
from headrace.errors import HeadraceError
from headrace.models.identifiers import is_identifier

logger = logging.getLogger(__name__)

REREAD_SECONDS = 2.0

FILE_MAX_BYTES = 10_000_000
"""Bytes of a key file at most: some 100,000 keys."""

PREFIX = "headrace_"
"""Prefix of every key made here, by which scanners for leaked secrets recognise it."""

_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_LIMIT = re.compile(r"(rate|burst)=(\d{1,9}(?:\.\d{1,9})?)")


class KeyScope(str, Enum):
    """A permission that a key can have."""

    PREDICT = "predict"
    JOBS = "jobs"
    READ = "read"
    METRICS = "metrics"


class KeyFileError(HeadraceError):
    """A key file that can't be used. The message names the line and the reason, and never quotes the line."""


class UnfinishedKeyFile(KeyFileError):
    """A key file that may still be being written: its last line does not end."""


class UnreadableKeyFile(KeyFileError):
    """A key file that could not be read this time, although another attempt may succeed without a change to it."""


@dataclass(frozen=True)
class Grant:
    """One line of the key file. Rate in requests per second; 0 is no limit."""

    owner: str
    digest: bytes
    scopes: frozenset[KeyScope]
    rate: float = 0.0
    burst: float = 0.0


@dataclass(frozen=True)
class ApiKey:
    """A key in use: its grant, and the rest of its limit in this process."""

    grant: Grant
    bucket: TokenBucket | None


def make_key() -> str:
    """Make a new key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: bytes) -> bytes:
    """Return the hash that is stored of a key. A plain hash, not a slow one: nobody can try 2**256 keys."""
    return hashlib.sha256(key).digest()


def read_grants(text: str) -> dict[bytes, Grant]:
    """Read the grants of a key file.

    Returns:
        Grants by the hash of their key.

    Raises:
        KeyFileError: if a line is malformed, or there is no key.
    """
    grants: dict[bytes, Grant] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            grant = _grant(words)
        except ValueError as error:
            raise KeyFileError(f"line {number}: {error}") from None
        if grant.digest in grants:
            raise KeyFileError(f"line {number}: an earlier line has the same key")
        grants[grant.digest] = grant
    if not grants:
        raise KeyFileError("it holds no key, so every caller would be refused")
    return grants


def _grant(words: list[str]) -> Grant:
    if len(words) < 3:
        raise ValueError("a line is: owner, sha256:<hash>, scopes, and rate= and burst= if there is a limit")
    owner, hashed, scopes, *limits = words
    if not is_identifier(owner):
        raise ValueError("an owner is 1 to 64 letters, digits, '.', '_' or '-'")
    found = _HASH.fullmatch(hashed)
    if found is None:
        raise ValueError("the second word is sha256: and the 64 hex digits of the key's hash, never the key")
    known = {scope.value for scope in KeyScope}
    if not set(scopes.split(",")) <= known:
        raise ValueError(f"scopes are {', '.join(sorted(known))}, separated by commas alone")
    rate, burst = _limit(limits)
    return Grant(owner, bytes.fromhex(found[1]), frozenset(map(KeyScope, scopes.split(","))), rate, burst)


def _limit(words: list[str]) -> tuple[float, float]:
    found = [_LIMIT.fullmatch(word) for word in words]
    values = {match[1]: float(match[2]) for match in found if match is not None}
    if len(values) < len(words) or (values and "rate" not in values):
        raise ValueError("a limit is rate=<requests per second>, and optionally burst=<requests at once>")
    if not values:
        return 0.0, 0.0
    rate = values["rate"]
    burst = values.get("burst", math.ceil(max(1.0, rate)))
    if rate <= 0 or burst < 1:
        raise ValueError("a rate is above 0, and a burst at least 1")
    return rate, burst


class KeyRing:
    """The keys of a file that is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            KeyFileError: if the file holds no key or is malformed: a gateway that must ask for keys never starts
                without any.
        """
        self._path = path
        self._version: object = None
        self._seen: object = None
        self._complaint = ""
        self._keys: dict[bytes, ApiKey] = {}
        self._use(*_read(path, settled=True))

    def find(self, key: bytes) -> ApiKey | None:
        """Return a key in use, or None. The lookup is by hash, so its duration tells nothing about the keys on file."""
        return self._keys.get(digest_of(key))

    async def step(self) -> None:
        """Read the file again if it has changed, or could not be read the last time.

        Of a file that can't be used each reason is logged once, and the last keys stay.
        """
        await asyncio.sleep(REREAD_SECONDS)
        version = await asyncio.to_thread(_version, self._path)
        if version == self._version:
            self._complaint = ""
            return
        settled, self._seen = version == self._seen, version
        try:
            self._use(*await asyncio.to_thread(_read, self._path, settled))
        except UnfinishedKeyFile:
            return
        except KeyFileError as error:
            if not isinstance(error, UnreadableKeyFile):
                self._version = version
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.error("the API keys stay as they were: %s", error)
        else:
            self._complaint = ""
            logger.info("%d API keys were read", len(self._keys))

    def _use(self, version: object, grants: dict[bytes, Grant]) -> None:
        self._version = version
        earlier = self._keys
        # An unchanged line keeps its bucket, and so the part of its limit that is used up.
        self._keys = {
            digest: earlier[digest] if digest in earlier and earlier[digest].grant == grant else _in_use(grant)
            for digest, grant in grants.items()
        }


def _in_use(grant: Grant) -> ApiKey:
    return ApiKey(grant, TokenBucket(grant.rate, grant.burst) if grant.rate else None)


def _read(path: Path, settled: bool) -> tuple[object, dict[bytes, Grant]]:
    """Return the version of the file that was read, and what it grants by the digests of keys.

    Args:
        path: of the file.
        settled: True if it has not changed for a while.

    Raises:
        UnfinishedKeyFile: if it is not settled, and its last line does not end.
        KeyFileError: if it can't be used.
    """
    version = _version(path)
    try:
        content = _content(path)
        if not settled and not content.endswith(b"\n"):
            raise UnfinishedKeyFile("its last line does not end with a newline")
        return version, read_grants(content.decode())
    except OSError as error:
        raise UnreadableKeyFile(f"API_KEYS_FILE: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"API_KEYS_FILE: {path}: it is not text") from None
    except UnfinishedKeyFile:
        raise
    except KeyFileError as error:
        raise KeyFileError(f"API_KEYS_FILE: {path}: {error}") from None


def _content(path: Path) -> bytes:
    """Read a file; anything else, whose reading might not end, is refused.

    Raises:
        KeyFileError: if it is not a regular file, or too large.
        OSError: if it can't be read.
    """
    # Without the flag, opening a FIFO would wait for somebody to write to it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise KeyFileError("it is not a regular file")
        content = file.read(FILE_MAX_BYTES + 1)
    if len(content) > FILE_MAX_BYTES:
        raise KeyFileError(f"it is larger than {FILE_MAX_BYTES} bytes")
    return content


def _version(path: Path) -> object:
    """Return a value that differs after the file was written, replaced, or given to others to read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
