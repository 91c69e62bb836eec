"""Bounds for what servers of other people send, and where their files may be."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from headrace.errors import MlflowUnusable

DOCUMENT_MAX_BYTES = 16_000_000
"""Bytes of a document: `MLmodel`, an input example, an answer of the registry."""

MODEL_MAX_BYTES = 2_000_000_000
"""Bytes of the file of a model: as many as a worker takes as delivered (WORKER_MEMORY_BUDGET_BYTES)."""


def joined(parts: Iterable[bytes], max_bytes: int, where: str) -> bytes:
    """Return the parts of a file as one; `where` names it in the error.

    Raises:
        MlflowUnusable: if they have more than `max_bytes`; the rest is not read.
    """
    content = bytearray()
    for part in parts:
        content += part
        if len(content) > max_bytes:
            raise MlflowUnusable(f"{where}: it has more than {max_bytes:,} bytes")
    return bytes(content)


def inside(path: str) -> str:
    """Return a relative path unchanged, after checking that it stays inside its folder.

    Raises:
        MlflowUnusable: if it leads out of it, or is no such path.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable():
        raise MlflowUnusable(f"{path!r} is no path inside the folder of a model")
    return path
