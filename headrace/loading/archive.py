"""Reading of skops artifacts, which are zip archives, within a bound.

Neither zipfile nor skops has one. zipfile inflates up to 2 GB at once, whatever size the archive declares. skops reads
a member again for each part of its schema that names it, and checks a part again for each reference to it: one that
holds another twice, which does so in turn, takes longer than anyone can wait. A sparse matrix is an archive within the
archive.

skops makes all parts before anything can look at them, so its schema is checked first.
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
from headrace.loading.names import is_special
from headrace.loading.states import check_estimator
from headrace.loading.tokens import untrusted

SCHEMA = "schema.json"

SCHEMA_FACTOR = 24
"""Bytes of memory, about, that skops takes while it loads for a byte of the schema that is no white space."""

EXPANDED_FACTOR = 10
EXPANDED_MIN = 1_000_000
"""A schema may expand to so many times the nodes that are written in it, and to so many in any case.

skops itself writes a shared part out each time.
"""

KEY_TYPES = frozenset(
    [f"builtins.{name}" for name in ("bool", "float", "int", "str")]
    + [f"numpy.{name}" for name in ("bool", "bool_", "float16", "float32", "float64", "str_")]
    + [f"numpy.{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""Types of the keys of dictionaries. skops calls each with a text."""

POOL_WORDS_MAX = 1024
"""Words in the pool of a generator's seeds; NumPy's own have 4."""

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
    _Schema(json.loads(schema)).check(trusted)

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


class _Schema:
    """The nodes of a schema, of which skops makes the parts.

    A node is an object of JSON. One with the `__id__` of another stands for it: skops takes the one that it reads
    first. So all nodes with an id have to pass, and the largest is counted.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._nodes: list[dict[str, Any]] = []
        self._by_id: dict[Any, list[dict[str, Any]]] = {}
        self._counts: dict[Any, int | None] = {}
        """Id -> its nodes; None while these are counted."""
        pending = [schema]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                self._nodes.append(value)
                if (known := _id_of(value)) is not None:
                    self._by_id.setdefault(known, []).append(value)
                pending.extend(value.values())
            elif isinstance(value, list):
                pending.extend(value)

    def check(self, trusted: Collection[str]) -> None:
        """Check that skops can make the parts, and makes no harm by it: NumPy asks objects for special attributes.

        Args:
            trusted: Types that may have any state.

        Raises:
            ArtifactInvalid: if there are too many nodes, one is inside itself, which skops can't load, an object has a
                state that is no dictionary, or a dictionary has special names or keys of other than plain types.
        """
        self._count(self._schema)
        for node in self._nodes:
            loader: Any = node.get("__loader__")
            content: Any = node.get("content")
            if loader == "DictNode":
                self._check_dictionary(node)
            elif loader == "RandomGeneratorNode":
                self._check_seeds(content["seed_seq"])
            elif loader == "DefaultDictNode":
                self._demand(content["default_factory"], "TypeNode")
            elif loader == "MaskedArrayNode":
                self._demand(content["data"], "NdArrayNode")
                self._demand(content["mask"], "NdArrayNode")
            elif loader == "PartialNode":
                # Python would take attributes from pairs too.
                self._demand(content["namespace"], "DictNode")
            elif loader == "RandomStateNode" or (
                loader == "ObjectNode" and f"{node['__module__']}.{node['__class__']}" not in trusted
            ):
                self._demand(content, "DictNode")

    def _check_dictionary(self, node: dict[str, Any]) -> None:
        """Check a dictionary, which may be the attributes of an object; skops calls the types of its keys."""
        for name in sorted(node["content"]):
            # NumPy's type of texts drops zero bytes at the end, so a name that has one may become another one.
            if is_special(name) or "\0" in name:
                raise untrusted(f"an attribute {name!r}")
        for types in self._demand(node["key_types"], "ListNode"):
            for each in types.get("content", []):
                for taken in self._demand(each, "TypeNode"):
                    path = f"{taken.get('__module__')}.{taken.get('__class__')}"
                    if taken.get("__loader__") == "TypeNode" and path not in KEY_TYPES:
                        raise untrusted(f"a key of the type {path}")

    def _check_seeds(self, node: Any) -> None:
        """Check the arguments with which skops makes the seeds of a generator: NumPy fills a pool of any size."""
        for seeds in self._demand(node, "DictNode"):
            for size in self._demand(seeds["content"]["pool_size"], "JsonNode"):
                if not 0 <= json.loads(size["content"]) <= POOL_WORDS_MAX:
                    raise untrusted("a large pool of seeds")

    def _demand(self, node: Any, loader: str) -> list[dict[str, Any]]:
        """Return the nodes that skops may take for this one; all have the loader, or are null."""
        taken = self._by_id.get(_id_of(node), [node]) if isinstance(node, dict) else []
        for each in taken:
            found = each.get("__loader__")
            if found != loader and (found, each.get("content")) != ("JsonNode", "null"):
                raise untrusted(f"a {found} in the place of a {loader}")
        return taken

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
        if count > max(EXPANDED_MIN, EXPANDED_FACTOR * len(self._nodes)):
            raise ArtifactInvalid("its schema refers to the same parts again and again")
        return count


def _id_of(node: dict[str, Any]) -> Any:
    """Return the id under which skops remembers a node; None if it has none."""
    known = node.get("__id__")
    return known if known and isinstance(known, str | int | float) else None
