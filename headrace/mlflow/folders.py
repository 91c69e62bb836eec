"""Folders of models, wherever they are: only the files that an import needs are read, each up to a bound."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headrace.errors import MlflowUnusable
from headrace.mlflow.limits import inside, joined
from headrace.mlflow.tracking import TrackingServer
from headrace.models.local_storage import regular_file_parts
from headrace.models.storage import open_storage

PROXIED = "mlflow-artifacts"
STORES = ("s3", "gs", "gcs", "abfs", "abfss")
"""Schemes of storage that are read as model stores are: a server chooses the address, so no others."""

Folder = Callable[[str, int], bytes]
"""A function from the path of a file in a folder, and the most bytes that it may have, to its content."""


def local(root: Path) -> Folder:
    """Return a folder of this machine; links in it that lead out of it are not followed."""

    def read(path: str, max_bytes: int) -> bytes:
        # Unlike Path.resolve, it raises nothing for links in a circle, which can't be opened.
        file = Path(os.path.realpath(root / inside(path)))
        if not file.is_relative_to(os.path.realpath(root)):
            raise MlflowUnusable(f"{root / path}: it is a link that leads out of the folder")
        return joined(regular_file_parts(file, max_bytes + 1), max_bytes, str(file))

    return read


def folder_of(server: TrackingServer, location: str) -> Folder:
    """Return the folder at a URI that a tracking server names.

    Raises:
        MlflowUnusable: if the URI leads to another server, or has a scheme that is not supported.
    """
    parts = urlsplit(location)
    if parts.scheme == PROXIED:
        if parts.netloc not in ("", server.host):
            raise MlflowUnusable(f"{location}: these artifacts are on another server than {server.address}")
        root = inside(unquote(parts.path).strip("/"))
        return lambda path, max_bytes: server.artifact(f"{root}/{inside(path)}", max_bytes)
    if parts.scheme in ("", "file"):
        return local(Path(unquote(parts.path)))
    if parts.scheme in STORES:
        return _remote(location)
    raise MlflowUnusable(
        f"{location}: artifacts are read from {PROXIED}:, file: and {', '.join(f'{each}:' for each in STORES)}"
    )


def _remote(location: str) -> Folder:
    storage = open_storage(location)

    def read(path: str, max_bytes: int) -> bytes:
        parts = storage.parts(inside(path), max_bytes + 1)
        return joined(parts, max_bytes, storage.location(path))

    return read
