"""Files of a model store behind a URL. No other module uses fsspec or knows the errors of its backends."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import sync

from headrace.errors import ModelError, StoreUnavailable

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
"""Longest silence of the server, in seconds."""
TRIES = 2

CALL_SECONDS = 30.0
"""Longest duration of a call, in seconds, without the time that its bytes may take."""
BYTES_PER_SECOND_MIN = 1_000_000
"""Least rate at which the content of a file is read or written."""
LISTED_PATHS_MAX = 100_000
"""Most files below a folder; a store that lists more is unusable."""

S3_CONFIGURATION = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "read_timeout": READ_TIMEOUT_SECONDS,
    # s3fs makes retries of its own; the numbers of both would be multiplied.
    "retries": {"total_max_attempts": 1},
}

REASONS = {
    "ConnectTimeoutError": "it can't be reached",
    "EndpointConnectionError": "it can't be reached",
    "FSTimeoutError": "it takes too long",
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
        protocol = root.partition("://")[0]
        self._is_s3 = protocol in ("s3", "s3a")
        if protocol not in fsspec.available_protocols():
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
            files, full, limit = self._files(), self._full(path), self._within(max_bytes)
            content: bytes
            if self._is_s3:
                content = sync(files.loop, _begin_of_file, files, full, max_bytes, **limit)
            else:
                content = files.cat_file(full, start=0, end=max_bytes, **limit)
        yield content

    def find(self, folder: str = "") -> list[str]:
        """Return the paths of all files below a folder; none if there is no such folder.

        Raises:
            StoreUnavailable: if it can't be read, or there are more than LISTED_PATHS_MAX.
        """
        with self._explained():
            base, below = self._full(""), self._full(folder).rstrip("/") + "/"
            found: list[str] = self._listed(below) if self._is_s3 else self._files().find(below, **self._within())
        if len(found) > LISTED_PATHS_MAX:
            raise StoreUnavailable(f"{self.location(folder)}: it lists more than {LISTED_PATHS_MAX:,} files")
        return sorted(path[len(base) :] for path in found if path.startswith(below))

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, new or not, in one step.

        Raises:
            StoreUnavailable: if it can't be written.
        """
        with self._explained():
            self._files().pipe_file(self._full(path), content, **self._within(len(content)))

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
                        self._files().rm_file(self._full(name), **self._within())
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
                    self._files().rm_file(self._full(path), **self._within())

    def _create(self, path: str, source: Path) -> None:
        with self._explained():
            limit = self._within(source.stat().st_size)
            self._files().put_file(str(source), self._full(path), mode="create", **limit)

    def _listed(self, folder: str) -> list[str]:
        """Return the paths below a folder of S3 as the backend names them, at most a page more than LISTED_PATHS_MAX.

        `find` of s3fs reads pages without an end, and keeps each folder of each path.
        """
        bucket, prefix, _ = self._files().split_path(folder)
        options = {"Bucket": bucket, "Prefix": f"{prefix.rstrip('/')}/" if prefix else ""}
        ends = time.monotonic() + CALL_SECONDS
        paths: list[str] = []
        while len(paths) <= LISTED_PATHS_MAX:
            # For fsspec a timeout of 0 is none.
            left = max(ends - time.monotonic(), 0.001)
            page = self._files().call_s3("list_objects_v2", **options, timeout=left)
            paths += [f"{bucket}/{file['Key']}" for file in page.get("Contents", ()) if not file["Key"].endswith("/")]
            if not page.get("IsTruncated"):
                break
            options["ContinuationToken"] = page["NextContinuationToken"]
        return paths

    def _within(self, n_bytes: int = 0) -> dict[str, float]:
        """Return the option that ends a call of the backend which moves so many bytes; one without network has none."""
        return {"timeout": CALL_SECONDS + n_bytes / BYTES_PER_SECOND_MIN} if self._files().async_impl else {}

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
            if self._is_s3:
                # With a concurrency of 1, s3fs writes the parts of a large file one after the other.
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


async def _begin_of_file(files: Any, path: str, max_bytes: int) -> bytes:
    """Return at most `max_bytes` of a file on S3, by one request; the rest is not read, whatever the server sends."""
    file = await files.open_async(path)
    content = bytearray()
    try:
        while len(content) < max_bytes and (part := await file.read(max_bytes - len(content))):
            content += part
    finally:
        # The answer; s3fs does not close it, and there is none if the request failed.
        if file.r is not None:
            file.r.close()
    return bytes(content)
