"""Inference requests: tensors in JSON and in bytes, and everything that is none."""

import json
import math
import struct
from typing import Any

import pytest

from gateway.errors import InvalidJson, InvalidTensors
from gateway.oip.datatypes import DATATYPES
from gateway.oip.tensors import AskedOutput, InferRequest, read_request
from tests.support.tensors import LENGTH, as_bytes, binary_body, tensor

pytestmark = pytest.mark.unit

VALUES_MAX = 100
COLUMN = tensor("length", "FP64", [1.5, 2.5])
EXAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    **{f"UINT{bits}": [0, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    "FP32": [1.5, -0.25],
    "FP64": [0.1, -1e300],
    "BYTES": ["", "Zürich\n"],
}
CODES = {name: datatype.code for name, datatype in DATATYPES.items()}


def read(content: Any, rest: bytes = b"", length: bytes | None = None) -> InferRequest:
    body = json.dumps(content).encode()
    return read_request(body + rest, b"%d" % len(body) if rest and length is None else length, VALUES_MAX)


def in_bytes(datatype: str, values: list[Any]) -> bytes:
    return as_bytes(values, "BYTES") if datatype == "BYTES" else struct.pack(f"<2{CODES[datatype]}", *values)


def test_every_datatype_of_the_protocol_is_read_from_json_and_bytes() -> None:
    assert EXAMPLES.keys() | {"FP16"} == DATATYPES.keys()
    for datatype, values in EXAMPLES.items():
        [found] = read({"inputs": [tensor("x", datatype, values)]}).inputs
        assert ([*found.values], found.datatype, found.shape) == (values, datatype, [2, 1])

        content = in_bytes(datatype, values)
        described = {"name": "x", "datatype": datatype, "shape": [2], "parameters": {"binary_data_size": len(content)}}
        [found] = read({"inputs": [described]}, content).inputs
        assert [*found.values] == values


def test_half_precision_comes_as_bytes() -> None:
    described = {"name": "x", "datatype": "FP16", "shape": [2], "parameters": {"binary_data_size": 4}}

    assert [*read({"inputs": [described]}, struct.pack("<2e", 1.5, math.inf)).inputs[0].values] == [1.5, math.inf]
    with pytest.raises(InvalidTensors, match="FP16 come as bytes only"):
        read({"inputs": [tensor("x", "FP16", [1.5])]})


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[[1], [2], [3]], [[4], [5], [6]]]])
def test_data_is_flat_or_nested(data: Any) -> None:
    described = {**tensor("x", "INT64", [], [2, 3, 1]), "data": data}

    assert [*read({"inputs": [described]}).inputs[0].values] == [1, 2, 3, 4, 5, 6]


def test_bytes_are_those_of_the_tensors_in_their_order() -> None:
    body, headers = binary_body([tensor("a", "INT8", [1]), tensor("b", "BYTES", ["x"]), tensor("c", "FP64", [2.0])])

    found = read_request(body, headers[LENGTH].encode(), VALUES_MAX)

    assert {each.name: [*each.values] for each in found.inputs} == {"a": [1], "b": ["x"], "c": [2.0]}


def test_nulls_are_missing_values() -> None:
    assert [*read({"inputs": [tensor("x", "INT8", [None, 3])]}).inputs[0].values] == [None, 3]
    assert [*read({"inputs": [tensor("x", "BYTES", [None, None])]}).inputs[0].values] == [None, None]


def test_outputs_are_asked_for_by_name_and_form() -> None:
    outputs = [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]

    assert read({"inputs": [COLUMN], "outputs": outputs}).outputs == [AskedOutput("a", True), AskedOutput("b", False)]
    both = read({"inputs": [COLUMN], "outputs": outputs[1:], "parameters": {"binary_data_output": True}})
    assert both.outputs == [AskedOutput("b", True)]
    assert read({"inputs": [COLUMN], "id": "7", "outputs": None}).id == "7"


@pytest.mark.parametrize(
    ("datatype", "data", "row"),
    [
        ("FP64", [1.5, 2, None, 3, "4", "5"], 2),
        ("FP64", [[1.5, 2], [True, 3], ["4", 5]], 1),
        ("INT8", [1, 2, 3, 4, 5, 128], 2),
        ("BYTES", ["a", 1, "b", "c", "d", "e"], 0),
    ],
)
def test_the_first_wrong_value_is_named_by_its_input_and_row(datatype: str, data: Any, row: int) -> None:
    name = "length" * 20
    with pytest.raises(InvalidTensors) as refused:
        read({"inputs": [COLUMN, {"name": name, "datatype": datatype, "shape": [3, 2], "data": data}]})

    assert str(refused.value).startswith(f"input {name[:64]}: a value is ")
    assert str(refused.value).endswith(f"the first one in row {row} (counted from 0)")


def test_classes_in_the_place_of_a_tensor_are_refused_in_words_of_the_client() -> None:
    for count in (1, 3):
        with pytest.raises(InvalidTensors, match="class_count"):
            read({"inputs": [COLUMN], "outputs": [{"name": "predict", "parameters": {"classification": count}}]})
    asked = [{"name": "predict", "parameters": {"classification": 0}}]
    assert read({"inputs": [COLUMN], "outputs": asked}).outputs == [AskedOutput("predict", False)]


def changed(**members: Any) -> dict[str, Any]:
    return {"inputs": [{**COLUMN, **members}]}


def sized(size: Any, datatype: str = "FP64", shape: Any = (2, 1)) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [*shape], "parameters": parameters}]}


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "text",
        {},
        {"inputs": None},
        {"inputs": []},
        {"inputs": {}},
        {"inputs": [1]},
        {"inputs": [{}]},
        {"inputs": [COLUMN, COLUMN]},
        {"inputs": [COLUMN], "id": 7},
        {"inputs": [COLUMN], "id": "x" * 2000},
        {"inputs": [COLUMN], "parameters": []},
        {"inputs": [COLUMN], "parameters": {"sequence_id": 1}},
        {"inputs": [COLUMN], "outputs": [{}]},
        {"inputs": [COLUMN], "outputs": ["predict"]},
        {"inputs": [COLUMN], "outputs": [{"name": "a", "parameters": {"binary_data": 1}}]},
        {"inputs": [COLUMN], "outputs": [{"name": "a", "parameters": {"shared_memory_region": "x"}}]},
        changed(name=""),
        changed(name="x" * 257),
        changed(name=None),
        changed(datatype="BF16"),
        changed(datatype="fp64"),
        changed(datatype=None),
        changed(datatype=["FP64"]),
        changed(shape=None),
        changed(shape=[]),
        changed(shape=[-1]),
        changed(shape=[-1, -2]),
        changed(shape=[2.0, 1]),
        changed(shape=[True, 2]),
        changed(shape=["2"]),
        changed(shape=[2**64]),
        changed(shape=[2**32, 2**32]),
        changed(shape=[2**64, 0]),
        changed(shape=[1] * 9),
        changed(shape=[3, 1]),
        changed(shape=[1, 1]),
        changed(shape=[101]),
        changed(data=1.5),
        changed(data=None),
        changed(data="12"),
        changed(data=[[1.5], 2.5]),
        changed(data=[[1.5, 2.5], []]),
        changed(data=[[1.5, 2.5]]),
        changed(data=[[[1.5]], [[2.5]]]),
        changed(data=[1.5, "2.5"]),
        changed(data=[1.5, True]),
        changed(data=[1.5, {}]),
        changed(data=[1, 2], datatype="BOOL"),
        changed(data=[1, 2], datatype="BYTES"),
        changed(data=[1, 2.5], datatype="INT64"),
        changed(data=[1, True], datatype="INT64"),
        changed(data=[1, 128], datatype="INT8"),
        changed(data=[1, -1], datatype="UINT64"),
        changed(data=[1, 2**64], datatype="UINT64"),
        changed(data=[1, 2**63], datatype="INT64"),
        changed(parameters={"binary_data_size": 16}),
        changed(parameters="x"),
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1]}]},
    ],
    ids=str,
)
def test_another_request_is_refused(content: Any) -> None:
    with pytest.raises(InvalidTensors, match=r"."):
        read(content)


@pytest.mark.parametrize("body", [b"", b"{", b"Nan", b"\xff", b"[" * 100_000])
def test_other_bytes_are_no_json(body: bytes) -> None:
    with pytest.raises(InvalidJson, match="Invalid JSON"):
        read_request(body, None, VALUES_MAX)


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (sized(16), b"x" * 15),
        (sized(16), b"x" * 17),
        (sized(8), b"x" * 16),
        (sized(-1), b"x" * 16),
        (sized(True), b"x" * 16),
        (sized(16.0), b"x" * 16),
        (sized("16"), b"x" * 16),
        (sized(10**30), b"x" * 16),
        (sized(16, shape=[2**62, 4]), b"x" * 16),
        (sized(3, "BYTES", [1]), b"abc"),
        (sized(8, "BYTES", [1]), struct.pack("<I", 5) + b"text"),
        (sized(8, "BYTES", [1]), struct.pack("<I", 3) + b"text"),
        (sized(8, "BYTES", [2]), struct.pack("<I", 4) + b"text"),
        (sized(8, "BYTES", [1]), b"\xff" * 8),
        (sized(6, "BYTES", [1]), struct.pack("<I", 2) + b"\xff\xff"),
        ({"inputs": [COLUMN]}, b"more"),
    ],
    ids=str,
)
def test_sizes_that_lie_are_refused(content: Any, rest: bytes) -> None:
    with pytest.raises(InvalidTensors, match=r"."):
        read(content, rest)


@pytest.mark.parametrize("length", [b"", b"-1", b"0", b"1e3", b"9999", b"9" * 20, b"9" * 5000, b" 12"])
def test_a_length_of_the_json_that_lies_is_refused(length: bytes) -> None:
    with pytest.raises(InvalidTensors, match="Inference-Header-Content-Length"):
        read({"inputs": [COLUMN]}, length=length)


def test_the_tensors_have_a_limit_together() -> None:
    tensors = [tensor(f"x{at}", "UINT8", [0] * 10) for at in range(11)]

    assert len(read({"inputs": tensors[:10]}).inputs) == VALUES_MAX // 10
    with pytest.raises(InvalidTensors, match="more than 100 values"):
        read({"inputs": tensors})


def test_the_parts_of_the_json_are_counted_before_it_is_parsed_also_before_bytes() -> None:
    seen: list[bytes] = []
    body, headers = binary_body([COLUMN])

    read_request(body, headers[LENGTH].encode(), VALUES_MAX, seen.append)

    assert seen == [body[: int(headers[LENGTH])]]
