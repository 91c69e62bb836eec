import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
import skops.io
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from headrace.errors import ArtifactInvalid
from headrace.loading import archive
from headrace.loading.archive import SCHEMA, load_skops

BOUND = 2_000_000
ROWS = np.random.default_rng(0).normal(size=(200, 4))
CLASSES = np.where(ROWS[:, 0] > 0, "high", "low")
MATRIX = "scipy.sparse._csr.csr_matrix"
TOO_MUCH = "it unpacks to more than"


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        return {name: source.read(name) for name in source.namelist()}


def packed(content: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as made:
        for name, member in content.items():
            made.writestr(name, member)
    return target.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(matrix: Any, compressed: bool = True) -> bytes:
    file = io.BytesIO()
    sparse.save_npz(file, matrix, compressed=compressed)
    return file.getvalue()


def node(loader: str, **fields: Any) -> dict[str, Any]:
    return {"__class__": "ndarray", "__module__": "numpy", "__loader__": loader, **fields}


def many(n: int, node: dict[str, Any], **files: bytes) -> bytes:
    """Return an artifact of a list that holds a node n times."""
    schema = json.loads(members(skops.io.dumps([]))[SCHEMA])
    schema["content"] = [node] * n
    return packed({SCHEMA: json.dumps(schema).encode(), **files})


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("rows", [ROWS, sparse.csr_matrix(ROWS)], ids=["dense", "sparse"])
def test_an_artifact_is_loaded(compression: int, rows: Any) -> None:
    estimator = KNeighborsClassifier(algorithm="brute").fit(rows, CLASSES)

    loaded, size_bytes = load_skops(skops.io.dumps(estimator, compression=compression), [MATRIX], BOUND)

    assert np.array_equal(loaded.predict(rows), estimator.predict(rows))
    assert ROWS.nbytes < size_bytes < BOUND


def test_bytes_that_an_estimator_holds_are_what_they_were() -> None:
    estimator = LogisticRegression()
    estimator.note = b"\x00PK" * 10

    assert load_skops(skops.io.dumps(estimator), [], BOUND)[0].note == estimator.note


def zeros() -> bytes:
    content: bytes = skops.io.dumps([np.zeros(BOUND)], compression=zipfile.ZIP_DEFLATED)
    return content


def with_a_size_that_is_a_lie() -> bytes:
    """Return an archive that declares ten bytes for a member that inflates to many."""
    content = bytearray(zeros())
    size = np.array([BOUND * 8 + 128], "<u4").tobytes()
    assert content.count(size) == 2
    return bytes(content.replace(size, np.array([10], "<u4").tobytes()))


def one_array_many_times() -> bytes:
    return many(100, node("NdArrayNode", type="numpy", file="a.npy"), **{"a.npy": npy(np.zeros(10_000))})


def one_matrix_many_times() -> bytes:
    matrix = node("SparseMatrixNode", type="scipy", file="a.npz") | {
        "__class__": "csr_matrix",
        "__module__": "scipy.sparse",
    }
    return many(100, matrix, **{"a.npz": npz(sparse.csr_matrix(np.ones((100, 100))))})


def an_archive_in_an_archive() -> bytes:
    matrix = npz(sparse.csr_matrix(np.ones((600, 600))))
    assert len(matrix) < BOUND // 10
    return many(0, {}, **{"a.npz": matrix})


@pytest.mark.parametrize(
    "make",
    [zeros, with_a_size_that_is_a_lie, one_array_many_times, one_matrix_many_times, an_archive_in_an_archive],
)
def test_what_unpacks_to_too_much_is_refused(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make()
    assert len(content) < BOUND // 10
    monkeypatch.setattr(np, "load", pytest.fail)

    with pytest.raises((ArtifactInvalid, zipfile.BadZipFile), match=f"{TOO_MUCH}|Bad CRC"):
        load_skops(content, [], BOUND)


def test_many_nodes_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    content = many(4000, {"__class__": "int", "__module__": "builtins", "__loader__": "JsonNode", "content": "1"})
    assert len(load_skops(content, [], 20 * BOUND)[0]) == 4000
    monkeypatch.setattr(archive, "SLACK_BYTES", 0)
    monkeypatch.setattr(skops.io, "get_untrusted_types", pytest.fail)

    with pytest.raises(ArtifactInvalid, match="its schema alone takes more"):
        load_skops(content, [], BOUND)


def of_python(kind: str, loader: str, **fields: Any) -> dict[str, Any]:
    return {"__class__": kind, "__module__": "builtins", "__loader__": loader, **fields}


def doubled(levels: int, kind: str = "list", loader: str = "ListNode") -> dict[str, Any]:
    """Return the node of a container that holds another twice, which does so in turn, written once at each level."""
    inner = of_python("int", "JsonNode", content="1", __id__=1)
    for level in range(2, levels + 2):
        inner = of_python(kind, loader, content=[inner, {**inner, "content": []}], __id__=level)
    return inner


@pytest.mark.parametrize("kind", ["list", "set of tuples", "array", "in another order"])
def test_parts_that_are_shared_again_and_again_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = doubled(40)
    if kind == "set of tuples":
        # The hash of a tuple is computed in C, anew each time.
        part = of_python("set", "SetNode", content=[doubled(40, "tuple", "TupleNode")])
    elif kind == "array":
        shape = of_python("tuple", "TupleNode", content=[of_python("int", "JsonNode", content="2")] * 2)
        part = node("NdArrayNode", type="json", content=[doubled(40)], shape=shape)
    elif kind == "in another order":
        # skops reads `key_types` first, wherever it stands.
        part = of_python("dict", "DictNode", content={"a": {**part, "content": []}}, key_types=part)
    monkeypatch.setattr(skops.io, "get_untrusted_types", pytest.fail)

    with pytest.raises(ArtifactInvalid, match="refers to the same parts again and again"):
        load_skops(many(1, part), [], BOUND)


def test_a_part_that_holds_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skops.io, "get_untrusted_types", pytest.fail)

    with pytest.raises(ArtifactInvalid, match="a part that holds itself"):
        load_skops(many(1, of_python("list", "ListNode", content=[doubled(0), {"__id__": 7}], __id__=7)), [], BOUND)


def test_parts_that_are_shared_a_few_times_are_loaded() -> None:
    value = load_skops(many(3, doubled(10)), [], 20 * BOUND)[0]

    for _ in range(10):
        assert value[0][0] is value[0][1] is value[1][0]
        value = value[0]
    random = np.random.RandomState(0)
    assert len(load_skops(skops.io.dumps([random] * 50), [], 20 * BOUND)[0]) == 50


@pytest.mark.parametrize(
    ("form", "changes"),
    [
        ("csr", {"indices": np.array([-3, 1], np.int32)}),
        ("csc", {"indices": np.array([10**8, 1], np.int32)}),
        ("csr", {"indptr": np.array([0, 10**9, 0], np.int32)}),
        ("csc", {"indptr": np.array([0, 2, 1], np.int32)}),
        ("coo", {"coords": (np.array([0, 10**9]), np.array([0, 1]))}),
    ],
)
@pytest.mark.parametrize("kind", [MATRIX, "scipy.sparse.spmatrix"])
def test_the_positions_of_sparse_matrices_are_inside(form: str, changes: dict[str, Any], kind: str) -> None:
    matrix = getattr(sparse, f"{form}_matrix")(np.eye(2))
    vars(matrix).update(changes)
    module, _, name = kind.rpartition(".")
    held = {**node("SparseMatrixNode"), "__module__": module, "__class__": name, "type": "scipy", "file": "x.npz"}

    with pytest.raises((ArtifactInvalid, ValueError)):
        load_skops(many(1, held, **{"x.npz": npz(matrix)}), [kind])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_inflate_without_a_bound_are_refused(method: int) -> None:
    with pytest.raises(ArtifactInvalid, match="compressed by another method"):
        load_skops(skops.io.dumps(LogisticRegression(), compression=method), [], BOUND)


def test_archives_that_are_no_sparse_matrices_are_refused() -> None:
    matrix = npz(sparse.csr_matrix(ROWS))

    for name, member in {"a.npy": matrix, "a.npz": packed({"data.npy": matrix})}.items():
        with pytest.raises(ArtifactInvalid, match="is an archive, and no sparse matrix"):
            load_skops(many(0, {}, **{name: member}), [], BOUND)


def test_an_array_that_claims_to_be_huge_is_refused() -> None:
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    content = many(1, node("NdArrayNode", type="numpy", file="a.npy"), **{"a.npy": member.getvalue()})

    with pytest.raises((ValueError, MemoryError)):
        load_skops(content, [], BOUND)


def json_node(value: Any) -> dict[str, Any]:
    return of_python("str", "JsonNode", content=json.dumps(value))


def listed(*items: Any) -> dict[str, Any]:
    return of_python("list", "ListNode", content=list(items))


def pair(*items: Any) -> dict[str, Any]:
    return of_python("tuple", "TupleNode", content=list(items))


def dictionary(content: dict[str, Any], key_types: Any = None) -> dict[str, Any]:
    types = listed(*(of_python("str", "TypeNode") for _ in content)) if key_types is None else key_types
    return of_python("dict", "DictNode", content=content, key_types=types)


def scaler(state: Any) -> dict[str, Any]:
    estimator = {"__class__": "Normalizer", "__module__": "sklearn.preprocessing._data"}
    return {**node("ObjectNode", content=state), **estimator}


def function(name: str) -> dict[str, Any]:
    return {**node("FunctionNode"), "__class__": name, "__module__": "scipy.special"}


WINDOW = {"data": pair(json_node(16), json_node(True)), "version": json_node(3)}
"""An array interface, by which NumPy would take memory at any address."""
SPECIAL = scaler(dictionary({"__array_interface__": dictionary(WINDOW)}))
KEY_OF_NUMPY = {**node("TypeNode"), "__class__": "str_", "__module__": "numpy"}
OBJECTS = node("NdArrayNode", type="json", content=[json_node(1)], shape=listed(json_node(1)))
PLAIN = scaler(dictionary({"norm": json_node("l2")}))

HARMFUL: dict[str, list[dict[str, Any]]] = {
    "a special attribute": [SPECIAL],
    "a special attribute in an array of objects": [
        node("NdArrayNode", type="json", content=[SPECIAL], shape=listed(json_node(1), json_node(1)))
    ],
    "a special attribute as the content of a masked array": [
        node("MaskedArrayNode", content={"data": SPECIAL, "mask": json_node(False)})
    ],
    "an object as the content of a masked array": [
        node("MaskedArrayNode", content={"data": PLAIN, "mask": json_node(None)})
    ],
    "an object as a mask": [node("MaskedArrayNode", content={"data": OBJECTS, "mask": PLAIN})],
    "a text of JSON as the state of an object": [scaler(json_node({"__array_interface__": {"version": 3}}))],
    "pairs as the state of an object": [scaler(pair(pair(json_node("__array_interface__"), dictionary(WINDOW))))],
    "an object as the state of an object": [scaler(PLAIN)],
    "a special attribute behind a zero byte": [
        scaler(dictionary({"__array_interface__\0": dictionary(WINDOW)}, listed(KEY_OF_NUMPY)))
    ],
    "a type of keys that makes another text": [
        dictionary({"x": json_node(1)}, listed({**node("TypeNode"), "__class__": "datetime64", "__module__": "numpy"}))
    ],
    "a large pool of seeds": [
        {
            **node(
                "RandomGeneratorNode",
                content={
                    "bit_generator": dictionary({"bit_generator": json_node("PCG64")}),
                    "seed_seq": dictionary({"entropy": json_node(1), "pool_size": json_node(10**9)}),
                },
            ),
            "__class__": "Generator",
            "__module__": "numpy.random._generator",
        }
    ],
    "functions as types of keys": [dictionary({"x": json_node(1)}, listed(function("expit")))],
    "an array as types of keys": [dictionary({"x": json_node(1)}, OBJECTS)],
    "a masked array as types of keys": [
        dictionary({"x": json_node(1)}, node("MaskedArrayNode", content={"data": OBJECTS, "mask": json_node(None)}))
    ],
    "types of keys that stand for a part before them": [
        {**listed(function("expit")), "__id__": 7},
        dictionary({"x": json_node(1)}, {**listed(of_python("str", "TypeNode")), "__id__": 7}),
    ],
    "a type that stands for a function before it": [
        {**function("expit"), "__id__": 7},
        dictionary({"x": json_node(1)}, listed(of_python("str", "TypeNode", __id__=7.0))),
    ],
    "a state that stands for a part before it": [
        {**json_node({"__array_interface__": {}}), "__id__": 7},
        scaler({**dictionary({}), "__id__": 7}),
    ],
    "a function that makes what a dictionary does not have": [
        {
            **node("DefaultDictNode", content={"main": dictionary({}), "default_factory": function("expit")}),
            "__class__": "defaultdict",
            "__module__": "collections",
        }
    ],
    "pairs as the attributes of a partial": [
        {
            **node(
                "PartialNode",
                content={
                    "func": function("expit"),
                    "args": pair(),
                    "kwds": dictionary({}),
                    "namespace": pair(pair(json_node("__array_interface__"), dictionary(WINDOW))),
                },
            ),
            "__class__": "partial",
            "__module__": "functools",
        }
    ],
    "pairs as the state of a generator": [
        {
            **node("RandomStateNode", content=pair()),
            "__class__": "RandomState",
            "__module__": "numpy.random.mtrand",
        }
    ],
}


@pytest.mark.parametrize("nodes", HARMFUL.values(), ids=HARMFUL)
def test_parts_that_would_act_while_skops_makes_them_are_never_made(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skops.io, "load", lambda *_, **__: pytest.fail("skops makes the parts"))

    with pytest.raises(ArtifactInvalid, match=r"it needs an? .*, which is not trusted"):
        load_skops(many(1, listed(*nodes)), ["functools.partial"])
