"""Files of a model store in a directory: writes are synchronized to the disk, and visible as a whole or not at all."""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headrace.errors import StoreUnavailable


class LocalStorage:
    """Files below a directory, named by relative paths with `/`. Hidden files are drafts and are not listed."""

    remote = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self.root = str(root)

    def location(self, path: str) -> str:
        """Return the path or URL of a file, for messages."""
        return str(self._root / path)

    def exists(self) -> bool:
        """Tell whether the directory is there."""
        return self._root.is_dir()

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: if there is none.
            StoreUnavailable: if it can't be read.
        """
        with _explained(self._root / path):
            return (self._root / path).read_bytes()

    def find(self, folder: str = "") -> list[str]:
        """Return the paths of all files below a folder; none if there is no such folder.

        Raises:
            StoreUnavailable: if it can't be read.
        """
        return sorted(path.relative_to(self._root).as_posix() for path in _files(self._root / folder))

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, new or not, in one step.

        Raises:
            StoreUnavailable: if it can't be written.
        """
        target = self._root / path
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        _make_folder(target.parent)
        with _explained(target):
            try:
                draft.write_bytes(content)
                _sync(draft)
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
            _sync(target.parent)

    def add_folder(self, folder: str, write: Callable[[Path], None], last: str) -> None:
        """Add a folder that `write` fills; it appears in one step, so that `last` has no effect.

        After a failure there are no more folders than before.

        Raises:
            FileExistsError: if the folder exists already.
            StoreUnavailable: if it can't be written. Exceptions of `write` are passed on.
        """
        target = self._root / folder
        absent = [each for each in [target.parent, *target.parent.parents] if not each.exists()]
        try:
            self._add(target, write)
        except BaseException:
            for each in absent:
                with suppress(OSError):
                    each.rmdir()
            raise

    def _add(self, target: Path, write: Callable[[Path], None]) -> None:
        _make_folder(target.parent)
        with _explained(target):
            scratch = Path(tempfile.mkdtemp(prefix=".adding-", dir=target.parent))
        try:
            draft = scratch / target.name
            draft.mkdir()
            write(draft)
            with _explained(target):
                for path in [*draft.iterdir(), draft]:
                    _sync(path)
                try:
                    draft.rename(target)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise FileExistsError(target) from None  # another process added it meanwhile
                    raise
                _sync(target.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def remove_folder(self, folder: str, first: str) -> None:
        """Remove a folder; it disappears in one step, so that `first` has no effect.

        Raises:
            FileNotFoundError: if there is none.
            StoreUnavailable: if it can't be removed.
        """
        target = self._root / folder
        with _explained(target):
            scratch = target.with_name(f".removing-{uuid.uuid4().hex}")
            target.rename(scratch)
            shutil.rmtree(scratch)
            _sync(target.parent)


def _files(folder: Path, inner: bool = False) -> Iterator[Path]:
    with _explained(folder):
        try:
            entries = sorted(folder.iterdir())
        except FileNotFoundError:
            return
        except PermissionError:
            # An unreadable folder, such as the lost+found of a volume, must not hide the models beside it.
            if inner:
                return
            raise
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(entry, inner=True)
        else:
            yield entry


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{folder}: {error.strerror}") from error


def _sync(path: Path) -> None:
    """Synchronize a file or the entries of a folder to the disk, so that a power cut leaves no part of a version."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into StoreUnavailable, except for a file that is missing or exists."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        raise StoreUnavailable(f"{error.filename or path}: {error.strerror}") from error
