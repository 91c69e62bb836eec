"""Where the model store keeps its files: in a directory, or behind a URL."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from headrace.errors import ModelError
from headrace.models.local_storage import LocalStorage
from headrace.models.remote_storage import RemoteStorage

Interrupts = tuple[type[BaseException], ...]
"""Exceptions that interrupt a call from outside, such as a time limit: a storage passes them on unchanged."""


class Storage(Protocol):
    """Files below a root, named by relative paths with `/`. All methods raise StoreUnavailable when it fails."""

    root: str
    remote: bool
    """Whether reading goes over a network."""

    def location(self, path: str) -> str:
        """What people call it."""

    def read(self, path: str) -> bytes:
        """The content of a file, or FileNotFoundError."""

    def find(self, folder: str = "") -> list[str]:
        """The paths of all files below a folder; none if there is no such folder."""

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, new or not, in one step."""

    def add_folder(self, folder: str, write: Callable[[Path], None], last: str) -> None:
        """Add a folder that `write` fills locally, or FileExistsError; its file `last` appears when all others have."""

    def remove_folder(self, folder: str, first: str) -> None:
        """Remove a folder, or FileNotFoundError; its file `first` disappears before the others."""


def open_storage(root: str | Path, reraise: Interrupts = ()) -> Storage:
    """The storage of a directory or a URL; nothing is asked of it yet.

    Raises:
        ModelError: if it is a URL that can't be one of a store.
    """
    if isinstance(root, Path) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", root):
        return LocalStorage(Path(root))
    parts = urlsplit(root)
    if parts.username is not None or parts.password is not None:
        # Not shown: a URL is printed and logged in many places.
        raise ModelError("the model store's URL holds a user or a password: these belong into the environment")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ModelError(f"{root}: a file URL names a directory of this machine: file:///path")
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme in ("s3", "s3a") and not parts.netloc:
        raise ModelError(f"{root}: there is no bucket in it: s3://bucket/prefix")
    return RemoteStorage(root, reraise)
