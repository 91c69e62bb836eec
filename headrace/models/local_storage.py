"""Files of a model store in a directory: writes are synchronized to the disk, and visible as a whole or not at all."""

import errno
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from headrace.errors import FileUnusable, StoreUnavailable

LEVELS = 3
"""Levels of a store: models, their versions and aliases, files. What is deeper is not listed: links may form circles.
"""

PART_BYTES = 1 << 20

FAULTS_BEYOND_A_FILE = frozenset(
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "EINTR"),
        *("ESTALE", "ETIMEDOUT", "ENOTCONN", "ESHUTDOWN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET"),
    )
)
"""Errors of the process, or of a directory over a network. All others concern one file, and say nothing of others."""


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
        return _is_folder(self._root)

    def parts(self, path: str, max_bytes: int) -> Iterator[bytes]:
        """Yield the content of a file in parts; what comes after `max_bytes` is left out.

        Raises:
            FileNotFoundError: if there is none.
            FileUnusable: if the fault is this file's alone, as in `regular_file_parts`.
            StoreUnavailable: if it can't be read.
        """
        with _explained(self._root / path):
            yield from regular_file_parts(self._root / path, max_bytes)

    def find(self, folder: str = "") -> list[str]:
        """Return the paths of all files below a folder, to LEVELS below the root; none if there is no such folder.

        Raises:
            FileUnusable: if the fault is this folder's alone.
            StoreUnavailable: if it can't be read.
        """
        levels = LEVELS - len(Path(folder).parts)
        files = _files(self._root, self._root / folder, levels, set())
        return sorted(path.relative_to(self._root).as_posix() for path in files)

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
        if target.parent != self._root and target.parent.is_symlink():
            raise StoreUnavailable(f"{target.parent} is a link: what it leads to is not this store's to remove")
        with _explained(target):
            scratch = target.with_name(f".removing-{uuid.uuid4().hex}")
            target.rename(scratch)
            if scratch.is_symlink():
                # Another owner has the folder that the link leads to.
                scratch.unlink()
            else:
                shutil.rmtree(scratch)
            _sync(target.parent)


def regular_file_parts(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Yield the content of a file in parts of PART_BYTES; what comes after `max_bytes` is left out.

    Raises:
        FileUnusable: if the fault is this file's alone: this process may not read it, links lead to it in a circle,
            or it is a pipe, a device or another file that is not regular (reading one might never end).
        FileNotFoundError: if there is no such file.
        OSError: if it can't be read for another reason.
    """
    with _fault_of(path):
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileUnusable(f"{path}: it is not a regular file")
        while True:
            with _fault_of(path):
                part = file.read(min(PART_BYTES, max_bytes))
            if not part:
                return
            max_bytes -= len(part)
            yield part


def _files(root: Path, folder: Path, levels: int, linked: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files below a folder; inner folders that can't be read are left out, and hide nothing beside them.

    Links lead to each folder once, `linked` has these folders: n links in each of n folders would make n**LEVELS paths.
    """
    with _explained(folder):
        try:
            with nullcontext() if folder == root else _fault_of(folder):
                entries = sorted(folder.iterdir())
        except FileNotFoundError:
            return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            yield entry
        elif levels > 1 and not _is_repeated(entry, linked):
            with suppress(FileUnusable):
                yield from _files(root, entry, levels - 1, linked)


def _is_repeated(folder: Path, linked: set[tuple[int, int]]) -> bool:
    """Return True for a link to a folder to which another one has led, or that is gone; note the folder."""
    if not folder.is_symlink():
        return False
    try:
        found = folder.stat()
    except OSError:
        return True
    target = (found.st_dev, found.st_ino)
    if target in linked:
        return True
    linked.add(target)
    return False


def _is_folder(path: Path) -> bool:
    """Return True for a folder that can be opened, and for a link to one."""
    with suppress(FileUnusable), _fault_of(path):
        return path.is_dir()
    return False


@contextmanager
def _fault_of(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into FileUnusable, but for a missing file and for FAULTS_BEYOND_A_FILE."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in FAULTS_BEYOND_A_FILE:
            raise
        raise FileUnusable(f"{path}: {error.strerror}") from None


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
