"""Storage of the model store's files: in a directory, or behind a URL."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from headrace.errors import FileUnusable, ModelError
from headrace.models.local_storage import LocalStorage
from headrace.models.remote_storage import RemoteStorage

DOCUMENT_BYTES_MAX = 16_000_000
"""Bytes of a manifest, a signature or golden rows; a larger file is not read. A manifest has 1 to 1.5 kB a feature."""

Interrupts = tuple[type[BaseException], ...]
"""Exceptions that interrupt a call from outside, such as a time limit: a storage passes them on unchanged."""


class Storage(Protocol):
    """Files below a root, named by relative paths with `/`. All methods raise StoreUnavailable on failure."""

    root: str
    remote: bool
    """True if files are read over a network."""

    def location(self, path: str) -> str:
        """Return the path or URL of a file, for messages."""

    def exists(self) -> bool:
        """Tell whether the root is there; always true where it exists in names only."""

    def parts(self, path: str, max_bytes: int) -> Iterator[bytes]:
        """Yield the content of a file up to `max_bytes`, or raise FileNotFoundError or FileUnusable."""

    def find(self, folder: str = "") -> list[str]:
        """Return the paths of all files below a folder; none if there is no such folder."""

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, new or not, in one step."""

    def add_folder(self, folder: str, write: Callable[[Path], None], last: str) -> None:
        """Add a folder that `write` fills locally, its file `last` after all others, or raise FileExistsError."""

    def remove_folder(self, folder: str, first: str) -> None:
        """Remove a folder, its file `first` before all others, or raise FileNotFoundError."""


def read_document(storage: Storage, path: str, max_bytes: int | None = None) -> bytes | None:
    """Return the content of a file that is no artifact; None if there is no such file.

    Raises:
        FileUnusable: if it has more than `max_bytes`, by default DOCUMENT_BYTES_MAX, or can't be read as a file.
        StoreUnavailable: if it can't be read.
    """
    max_bytes = max_bytes or DOCUMENT_BYTES_MAX
    try:
        content = b"".join(storage.parts(path, max_bytes + 1))
    except FileNotFoundError:
        return None
    if len(content) > max_bytes:
        raise FileUnusable(f"{storage.location(path)}: it has more than {max_bytes:,} bytes")
    return content


def open_storage(root: str | Path, reraise: Interrupts = ()) -> Storage:
    """Return the storage of a directory or a URL, without accessing it.

    Raises:
        ModelError: if the URL can't be that of a store, or the name is empty.
    """
    if isinstance(root, str) and not root.strip():
        raise ModelError("the name of the model store is empty (MODEL_STORE)")
    if isinstance(root, Path) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", root):
        return LocalStorage(Path(root).expanduser())
    parts = urlsplit(root)
    if parts.username is not None or parts.password is not None:
        # The message does not show the URL; elsewhere URLs are printed and logged, hence the refusal.
        raise ModelError("the model store's URL holds a user or a password: these belong into the environment")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ModelError(f"{root}: a file URL names a directory of this machine: file:///path")
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme in ("s3", "s3a") and not parts.netloc:
        raise ModelError(f"{root}: there is no bucket in it: s3://bucket/prefix")
    return RemoteStorage(root, reraise)
