"""Reading of skops artifacts, which are zip archives, within a bound.

Neither zipfile nor skops has one. zipfile inflates up to 2 GB at once, whatever size the archive declares. skops reads
a member again for each part of its schema that names it, and checks a part again for each reference to it: one that
holds another twice, which does so in turn, takes longer than anyone can wait. A sparse matrix is an archive within the
archive.
"""

import io
import json
import zipfile
from collections.abc import Collection
from typing import Any

import skops.io
from scipy.sparse import load_npz

from headrace.errors import ArtifactInvalid
from headrace.loading.bounds import SLACK_BYTES, UNBOUNDED, BoundedStream
from headrace.loading.makers import check_sparse
from headrace.loading.states import check_estimator

SCHEMA = "schema.json"

SCHEMA_FACTOR = 24
"""Bytes of memory, about, that skops takes while it loads for a byte of the schema that is no white space."""

EXPANDED_FACTOR = 10
EXPANDED_MIN = 1_000_000
"""A schema may expand to so many times the nodes that are written in it, and to so many in any case.

skops itself writes a shared part out each time.
"""

SPARSE = ".npz"
ZIP_START = b"PK"
PART_BYTES = 1 << 20


def load_skops(content: bytes, trusted: Collection[str], max_bytes: int = UNBOUNDED) -> tuple[Any, int]:
    """Load a skops artifact.

    Args:
        content: The artifact.
        trusted: Types that it may hold beside those that skops trusts.
        max_bytes: The bound of the bytes to which it unpacks.

    Returns:
        The object, and the bytes to which the artifact unpacks.

    Raises:
        ArtifactInvalid: if it holds other types or callables, or unpacks to more.
        Exception: any error to which a damaged artifact leads.
    """
    plain = _stored(content, max_bytes)
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        schema = archive.read(SCHEMA)
        size_bytes = sum(member.file_size for member in archive.infolist())
    if SCHEMA_FACTOR * len(schema.translate(None, b" \n\r\t")) > max_bytes + SLACK_BYTES:
        raise ArtifactInvalid(f"its schema alone takes more than the {max_bytes:,} bytes that it may take")
    _Expansion(json.loads(schema)).check()

    def bounded() -> BoundedStream:
        # Without compression, a member takes its size from the stream each time that it is read.
        return BoundedStream(io.BytesIO(plain), max_bytes)

    unknown = sorted(set(skops.io.get_untrusted_types(file=bounded())) - set(trusted))
    if unknown:
        raise ArtifactInvalid(f"it holds {', '.join(unknown)}, not in SKOPS_TRUSTED_TYPES")
    estimator = skops.io.load(bounded(), trusted=sorted(trusted))
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        # Also those that are no attributes of an estimator: skops checks none of their positions.
        for name in archive.namelist():
            if name.endswith(SPARSE):
                check_sparse(load_npz(io.BytesIO(archive.read(name))))
    check_estimator(estimator)
    return estimator, size_bytes


def _stored(content: bytes, max_bytes: int, inner: bool = False) -> bytes:
    """Return a zip archive without compression, in itself and in the sparse matrices inside it.

    Raises:
        ArtifactInvalid: if it unpacks to more than `max_bytes`, or holds another archive.
    """
    plain = io.BytesIO()
    left = max_bytes
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(plain, "w") as target:
        for name in sorted(set(source.namelist())):
            member = _inflated(source, source.getinfo(name), left)
            # NumPy opens whatever begins like an archive as one.
            if member.startswith(ZIP_START):
                if inner or not name.endswith(SPARSE):
                    raise ArtifactInvalid(f"{name} is an archive, and no sparse matrix")
                member = _stored(member, left, inner=True)
            left -= len(member)
            target.writestr(name, member)
    return plain.getvalue()


def _inflated(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes:
    # Of other methods, zipfile inflates all that it has read at once.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArtifactInvalid(f"{member.filename} is compressed by another method than deflate")
    with archive.open(member) as file:
        stream = BoundedStream(file, max_bytes)
        return b"".join(iter(lambda: stream.read(PART_BYTES), b""))


class _Expansion:
    """The nodes of a schema, with a node counted again wherever another one refers to it.

    A node is an object of JSON. One with the `__id__` of another stands for it: skops takes the one that it reads
    first, and the largest is counted here, so that the order does not matter.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._written = 0
        self._by_id: dict[Any, list[dict[str, Any]]] = {}
        self._counts: dict[Any, int | None] = {}
        """Id -> its nodes; None while these are counted."""
        pending = [schema]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                self._written += 1
                if (known := _id_of(value)) is not None:
                    self._by_id.setdefault(known, []).append(value)
                pending.extend(value.values())
            elif isinstance(value, list):
                pending.extend(value)

    def check(self) -> None:
        """Check that the nodes are not too many, and that none is inside itself, which skops can't load.

        Raises:
            ArtifactInvalid: if not.
        """
        self._count(self._schema)

    def _count(self, value: Any) -> int:
        known = _id_of(value) if isinstance(value, dict) else None
        if known is None:
            return self._count_once(value)
        if known not in self._counts:
            self._counts[known] = None
            self._counts[known] = max(map(self._count_once, self._by_id[known]))
        count = self._counts[known]
        if count is None:
            raise ArtifactInvalid("its schema has a part that holds itself")
        return count

    def _count_once(self, value: Any) -> int:
        is_node = isinstance(value, dict)
        if not is_node and not isinstance(value, list):
            return 0
        count = is_node + sum(map(self._count, value.values() if is_node else value))
        if count > max(EXPANDED_MIN, EXPANDED_FACTOR * self._written):
            raise ArtifactInvalid("its schema refers to the same parts again and again")
        return count


def _id_of(node: dict[str, Any]) -> Any:
    """Return the id under which skops remembers a node; None if it has none."""
    known = node.get("__id__")
    return known if known and isinstance(known, str | int | float) else None
