"""Files of a model store behind a URL. No other module uses fsspec or knows the errors of its backends."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from headrace.errors import ModelError, StoreUnavailable

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
"""Longest silence of the server, in seconds."""
TRIES = 2

S3_CONFIGURATION = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "read_timeout": READ_TIMEOUT_SECONDS,
    # s3fs makes retries of its own; the numbers of both would be multiplied.
    "retries": {"total_max_attempts": 1},
}

REASONS = {
    "ConnectTimeoutError": "it can't be reached",
    "EndpointConnectionError": "it can't be reached",
    "FileNotFoundError": "there is no such bucket",
    "ImportError": "a library for this kind of URL is missing; for s3:// it is s3fs, in the extra 's3'",
    "NoCredentialsError": "there are no credentials in the environment",
    "PermissionError": "access is denied",
    "ReadTimeoutError": "it does not answer",
    "TimeoutError": "it does not answer",
}
"""Reasons by the name of an error's class or of one of its bases: the classes of backends can't be imported here."""


class RemoteStorage:
    """Files below a URL, named by relative paths with `/`. A file appears as a whole; folders exist in names only."""

    remote = True

    def __init__(self, root: str, reraise: tuple[type[BaseException], ...] = ()) -> None:
        """Use a URL that fsspec knows; exceptions in `reraise` belong to the caller, and are passed on unchanged.

        Raises:
            ModelError: if fsspec does not know the protocol.
        """
        self.root = root.rstrip("/") if "://" in root.rstrip("/") else root
        self._passing: tuple[type[BaseException], ...] = (FileExistsError, *reraise)
        self._protocol = root.partition("://")[0]
        if self._protocol not in fsspec.available_protocols():
            raise ModelError(f"{root}: no such kind of model store")
        # One per process, because their threads don't survive a fork. Those of other processes stay referenced: their
        # destructors would wait for such a thread.
        self._by_process: dict[int, tuple[Any, str]] = {}

    def location(self, path: str) -> str:
        """Return the path or URL of a file, for messages."""
        return f"{self.root}/{path}"

    def exists(self) -> bool:
        """Return true: folders exist in names only."""
        return True

    def parts(self, path: str, max_bytes: int) -> Iterator[bytes]:
        """Yield the content of a file, all at once; what comes after `max_bytes` is left out.

        Raises:
            FileNotFoundError: if there is none.
            StoreUnavailable: if it can't be read.
        """
        with self._explained(missing_is_error=False):
            try:
                content: bytes = self._files().cat_file(self._full(path), start=0, end=max_bytes)
            except OSError as error:
                # S3's answer to a range of an empty file.
                if error.errno != errno.EINVAL:
                    raise
                content = b""
        yield content

    def find(self, folder: str = "") -> list[str]:
        """Return the paths of all files below a folder; none if there is no such folder.

        Raises:
            StoreUnavailable: if it can't be read.
        """
        with self._explained():
            base, below = self._full(""), self._full(folder).rstrip("/")
            found: list[str] = self._files().find(self._full(folder))
        return sorted(path[len(base) :] for path in found if path.startswith(f"{below}/"))

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, new or not, in one step.

        Raises:
            StoreUnavailable: if it can't be written.
        """
        with self._explained():
            self._files().pipe_file(self._full(path), content)

    def add_folder(self, folder: str, write: Callable[[Path], None], last: str) -> None:
        """Add the files that `write` puts into a local folder; `last` is written after all others.

        No file replaces an existing one, so that two processes never mix their files.

        Raises:
            FileExistsError: if one of the files exists already.
            StoreUnavailable: if it can't be written. Exceptions of `write` are passed on.
        """
        with tempfile.TemporaryDirectory(prefix="headrace-adding-") as scratch:
            write(Path(scratch))
            paths = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
            paths.sort(key=lambda path: path == Path(scratch, last))
            begun: list[str] = []
            try:
                for path in paths:
                    begun.append(f"{folder}/{path.relative_to(scratch).as_posix()}")
                    self._create(begun[-1], path)
            except BaseException as error:
                if isinstance(error, FileExistsError):
                    begun.pop()  # it belongs to another process
                # The last file first: it may have arrived although the answer got lost.
                for name in reversed(begun):
                    with suppress(Exception):
                        self._files().rm_file(self._full(name))
                raise

    def remove_folder(self, folder: str, first: str) -> None:
        """Remove all files of a folder; `first` disappears before the others.

        Raises:
            FileNotFoundError: if there are none.
            StoreUnavailable: if they can't be removed.
        """
        paths = self.find(folder)
        if not paths:
            raise FileNotFoundError(self.location(folder))
        with self._explained():
            for path in sorted(paths, key=lambda path: path != f"{folder}/{first}"):
                # Another process may remove them at the same time.
                with suppress(FileNotFoundError):
                    self._files().rm_file(self._full(path))

    def _create(self, path: str, source: Path) -> None:
        with self._explained():
            self._files().put_file(str(source), self._full(path), mode="create")

    def _files(self) -> Any:
        return self._opened()[0]

    def _full(self, path: str) -> str:
        """Return a path in the form that the backend of fsspec uses."""
        return f"{self._opened()[1].rstrip('/')}/{path}"

    def _opened(self) -> tuple[Any, str]:
        """Return this process's fsspec backend, and the root as the backend names it."""
        opened = self._by_process.get(os.getpid())
        if opened is None:
            # Without these, files that another process has just written might be hidden by a cache.
            options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
            if self._protocol in ("s3", "s3a"):
                # A concurrency of 1 takes one request per file; otherwise s3fs asks for the size of each file first.
                options |= {"max_concurrency": 1, "config_kwargs": S3_CONFIGURATION}
            opened = fsspec.url_to_fs(self.root, **options)
            if hasattr(opened[0], "retries"):
                opened[0].retries = TRIES
            self._by_process[os.getpid()] = opened
        return opened

    @contextmanager
    def _explained(self, missing_is_error: bool = True) -> Iterator[None]:
        """Turn any exception of a backend into StoreUnavailable, without its text, which might hold credentials."""
        try:
            yield
        except self._passing:
            raise
        except FileNotFoundError as error:
            if not missing_is_error:
                raise
            raise self._unavailable(error) from error
        except Exception as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        names = [kind.__name__ for kind in type(error).__mro__]
        reason = next((REASONS[name] for name in names if name in REASONS), f"it failed with {names[0]}")
        return StoreUnavailable(f"{self.root}: {reason}")
