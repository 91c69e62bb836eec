from typing import Any

import pytest

from gateway.errors import InvalidTensors
from gateway.rpc.messages import INFERENCE, message_class
from gateway.rpc.wire import FIELDS_MAX, model_of


def message(n_inputs: int = 1, **fields: Any) -> bytes:
    made = message_class(INFERENCE, "ModelInferRequest")(**fields)
    for at in range(n_inputs):
        made.inputs.add(name=f"x{at}", datatype="BOOL", shape=[1, 1])
        made.raw_input_contents.append(b"\1")
    encoded: bytes = made.SerializeToString()
    return encoded


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ({}, {}),
        ({"model_name": "iris", "id": "a" * 300}, {"name": "iris"}),
        ({"model_name": "größe", "model_version": "v1"}, {"name": "größe", "version": "v1"}),
    ],
)
def test_the_model_is_that_of_the_message(fields: dict[str, Any], model: dict[str, str]) -> None:
    assert model_of(message(**fields)) == model


def test_the_last_name_counts() -> None:
    assert model_of(message(model_name="one") + message(model_name="two")) == {"name": "two"}
    # Of another wire type it is an unknown field.
    assert model_of(b"\x08\x01\x15\0\0\0\0\x11" + bytes(8) + message(model_name="iris")) == {"name": "iris"}


def test_a_message_with_a_tensor_of_each_of_many_features_is_taken() -> None:
    assert model_of(message(10_000, model_name="wide")) == {"name": "wide"}


@pytest.mark.parametrize("field", [b"\x2a\x00", b"\x22\x00", b"\x3a\x00", b"\x78\x01", b"\x0a\x01a"])
@pytest.mark.parametrize("n_bytes", [1_000, 16_000, 4_000_000])
def test_many_small_fields_are_refused(field: bytes, n_bytes: int) -> None:
    with pytest.raises(InvalidTensors, match="too many fields"):
        model_of(message(model_name="iris") + field * (n_bytes // len(field)))


def test_no_message_has_more_fields_than_the_widest_model_needs() -> None:
    with pytest.raises(InvalidTensors, match="too many fields"):
        model_of(b"\x3a\x64" + bytes(100) + (b"\x3a\x64" + bytes(100)) * FIELDS_MAX)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 11,
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0b\x0c",
        b"\x09\0",
        b"\x80",
        b"\x0a\x01\xff",
    ],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidTensors, match="the message is no ModelInferRequest"):
        model_of(content)
