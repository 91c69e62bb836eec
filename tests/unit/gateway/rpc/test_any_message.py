"""Robustness against callers: no message makes the gRPC process fail with an error of its own."""

from collections import Counter
from typing import Any
from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.row_parser import RowParser
from gateway.catalog.served_model import ServedModel
from gateway.oip.datatypes import DATATYPES
from gateway.rpc.messages import INFERENCE, message_class
from gateway.rpc.tensors import FIELDS
from headrace.models.manifest import Manifest
from tests.support.any_messages import check_infer_message
from tests.support.fuzzing import fuzzed
from tests.support.manifests import classifier, feature, flag, mixed, text
from tests.support.tensors import as_bytes

MIXED = mixed(
    feature("size"), feature("weight", nullable=True), text("colour"), text("note", None, nullable=True), flag("new")
)
STICKS = classifier()
NAMES = [*(each.name for each in (*MIXED.features, *STICKS.features)), "", "ü" * 256, "x" * 300, "predict", "output-0"]
VALUES = {"bool": st.booleans(), "fp32": st.floats(width=32), "fp64": st.floats(), "bytes": st.binary(max_size=5)}
INTEGERS = st.sampled_from([0, 1, 2, 255, 2**31 - 1])
SIZES = st.sampled_from([1, 1, 2, 3, 4, 0, -1, 2**32, 2**62])
EIGHT = st.integers(0, 4).map(lambda n: bytes(8 * n))
TEXTS = st.sampled_from([b"\1\0\0\0x", b"\3\0\0\0red", b"\xff\xff\xff\xff", b"\1\0\0\0\xff", b"\3\0\0\0red" * 3])


def served(manifest: Manifest) -> ServedModel:
    """Return a version of which nothing but rows is asked."""
    return ServedModel(manifest, RowParser(manifest, 3), Mock())


SERVED = [served(MIXED), served(STICKS)]


def parameters() -> st.SearchStrategy[dict[str, Any]]:
    kinds = {"bool_param": True, "int64_param": -1, "uint64_param": 2**64 - 1, "string_param": "x", "double_param": 0.1}
    value: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
        [{name: content} for name, content in kinds.items()]
    ) | st.just({})
    return st.dictionaries(st.sampled_from(["timeout", "binary_data", "shared_memory_region", ""]), value, max_size=2)


def contents() -> st.SearchStrategy[dict[str, Any]]:
    fields = [
        st.fixed_dictionaries({name: st.lists(VALUES.get(name.partition("_")[0], INTEGERS), max_size=4)})
        for name in sorted(set(FIELDS.values()))
    ]
    return st.one_of(fields)


def tensors() -> st.SearchStrategy[dict[str, Any]]:
    described = {
        "name": st.sampled_from(NAMES),
        "datatype": st.sampled_from([*DATATYPES, "FP64", "FP64", "BF16", ""]),
        "shape": st.sampled_from([[1, 1], [2, 1], [1], [1, 2], [1, 5]]) | st.lists(SIZES, max_size=3),
    }
    return st.fixed_dictionaries(described, optional={"parameters": parameters(), "contents": contents()})


@st.composite
def fitting(draw: st.DrawFn, manifest: Manifest) -> dict[str, Any]:
    """Draw a message with rows of a model, in bytes or typed."""
    n_rows, typed = draw(st.integers(1, 3)), draw(st.booleans())
    good = {
        "number": ("FP64", st.floats(-1e6, 1e6)),
        "string": ("BYTES", st.sampled_from(["red", "blue"])),
        "boolean": ("BOOL", st.booleans()),
    }
    inputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for each in manifest.features:
        datatype, value = good[each.type]
        values = draw(st.lists(value, min_size=n_rows, max_size=n_rows))
        inputs.append({"name": each.name, "datatype": datatype, "shape": [n_rows, 1]})
        if typed:
            texts = [each.encode() if isinstance(each, str) else each for each in values]
            inputs[-1]["contents"] = {FIELDS[datatype]: texts}
        else:
            raw.append(as_bytes(values, datatype))
    return {"inputs": inputs, "raw_input_contents": raw, "parameters": {"timeout": {"int64_param": 1_000_000}}}


def messages(manifest: Manifest) -> st.SearchStrategy[bytes]:
    """Return a strategy for messages with rows of a model, with another part, that lie, or with a few other bytes."""
    outputs = st.fixed_dictionaries({"name": st.sampled_from(NAMES), "parameters": parameters()})
    other = st.fixed_dictionaries(
        {},
        optional={
            "inputs": st.lists(tensors(), max_size=6),
            "id": st.text(max_size=20),
            "parameters": parameters(),
            "outputs": st.lists(outputs, max_size=3),
            "raw_input_contents": st.lists(EIGHT | TEXTS | st.binary(max_size=40), max_size=6),
        },
    )
    good = fitting(manifest)
    members = good | other | st.builds(lambda whole, part: {**whole, **part}, good, other)

    def encoded(content: dict[str, Any]) -> bytes:
        message = message_class(INFERENCE, "ModelInferRequest")(**content)
        found: bytes = message.SerializeToString()
        return found

    whole = members.map(encoded)
    cut = st.builds(
        lambda body, at, wedge, out: body[: at % (len(body) + 1)] + wedge + body[at % (len(body) + 1) + out :],
        whole,
        st.integers(0, 2**16),
        st.binary(max_size=3),
        st.integers(0, 5),
    )
    return whole | cut | st.binary(max_size=200)


def test_a_message_is_rows_or_a_problem_of_the_caller() -> None:
    found: Counter[bool] = Counter()

    @fuzzed(400)
    @given(st.sampled_from(SERVED).flatmap(lambda each: st.tuples(st.just(each), messages(each.manifest))))
    def send(asked: tuple[ServedModel, bytes]) -> None:
        found[check_infer_message(*asked)] += 1

    send()
    assert min(found[True], found[False]) > 50
