"""Inference requests and answers as messages: tensors in raw bytes, or in the typed contents of an input."""

import math
from array import array
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from gateway.catalog.row_examiner import MISTAKES_MAX
from gateway.catalog.served_model import ServedModel
from gateway.errors import InvalidTensors
from gateway.oip.datatypes import values_in_bytes, values_of, wrong_values
from gateway.oip.outputs import outputs_of
from gateway.oip.rows import check_names
from gateway.oip.tensors import InferRequest, TensorReader, check_different, request_of
from gateway.rpc.messages import INFERENCE, message_class

PARAMETERS_MAX = 100

FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Fields of typed contents by datatype; other datatypes have none."""


def infer_request(message: Any, served: ServedModel, values_max: int) -> InferRequest:
    """Return the inference request of a message.

    Args:
        message: the message, `ModelInferRequest`.
        served: the model version that predicts.
        values_max: the most values that the tensors may have together.

    Raises:
        InvalidTensors: if it is none.
        InvalidRows: if it has more inputs than there are features.
    """
    # A few bytes make an input, an output or a parameter: their number is checked before there is an object of each.
    n_features = len(served.manifest.features)
    if len(message.inputs) > n_features:
        # So many have two of one name, or one of another name than those of the features.
        names = [each.name for each in islice(message.inputs, n_features + MISTAKES_MAX)]
        check_different(names)
        check_names(names, served.parser.names)
    if len(message.outputs) > len(outputs_of(served.manifest)) + 1:
        raise InvalidTensors("there are more outputs than this model has")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidTensors("raw_input_contents has the values of each input, or of none")
    outputs = [{"name": each.name, "parameters": _parameters(each.parameters)} for each in message.outputs]
    for each in outputs:
        # Of the protocol over HTTP: here outputs are always bytes.
        each["parameters"].pop("binary_data", None)
    content = {
        "id": message.id or None,
        "parameters": {**_parameters(message.parameters), "binary_data_output": True},
        "inputs": [_input(each, raw[at] if raw else None) for at, each in enumerate(message.inputs)],
        "outputs": outputs,
    }
    return request_of(content, _MessageReader(values_max))


def answer_message(content: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]], binary: Sequence[bytes]) -> bytes:
    """Return the message of an answer, `ModelInferResponse`.

    Args:
        content: members of the answer as in JSON, but for its outputs.
        outputs: descriptions of the outputs as in JSON.
        binary: values of each output.
    """
    message = message_class(INFERENCE, "ModelInferResponse")(
        model_name=content["model_name"],
        model_version=content["model_version"],
        id=content.get("id"),
        outputs=[{name: each[name] for name in ("name", "datatype", "shape")} for each in outputs],
        raw_output_contents=binary,
    )
    for name, value in content["parameters"].items():
        message.parameters[name].double_param = value
    encoded: bytes = message.SerializeToString()
    return encoded


class _MessageReader(TensorReader):
    """A reader of the tensors of a message."""

    def values(
        self, content: dict[str, Any], parameters: dict[str, Any], datatype: str, shape: list[int]
    ) -> Sequence[Any]:
        """Return the values of an input."""
        raw, contents = content["raw"], content["contents"]
        if raw is not None:
            if contents is not None:
                raise InvalidTensors("raw_input_contents and contents do not mix")
            return values_in_bytes(memoryview(raw), datatype, math.prod(shape))
        return _typed(contents, datatype, shape)


def _input(each: Any, raw: bytes | None) -> dict[str, Any]:
    return {
        "name": each.name,
        "datatype": each.datatype,
        # A few more dimensions than there can be are enough to be refused.
        "shape": [*each.shape[:64]],
        "parameters": _parameters(each.parameters),
        "raw": raw,
        "contents": each.contents if each.HasField("contents") else None,
    }


def _typed(contents: Any, datatype: str, shape: list[int]) -> Sequence[Any]:
    field = FIELDS.get(datatype)
    if field is None:
        raise InvalidTensors(wrong_values(datatype))
    fields = [] if contents is None else [descriptor.name for descriptor, _ in contents.ListFields()]
    if fields and fields != [field]:
        raise InvalidTensors(f"values of {datatype} are in {field}")
    values = getattr(contents, field) if fields else []
    if len(values) != math.prod(shape):
        raise InvalidTensors("the contents have another number of values than the shape says")
    if field.startswith("fp"):
        return array("d", values)
    if datatype != "BYTES":
        return values_of([*values], datatype, shape)
    try:
        return [str(value, "utf-8") for value in values]
    except UnicodeDecodeError:
        raise InvalidTensors("a value of type BYTES is no text in UTF-8") from None


def _parameters(parameters: Any) -> dict[str, Any]:
    if len(parameters) > PARAMETERS_MAX:
        raise InvalidTensors(f"there are more than {PARAMETERS_MAX} parameters")
    found = {}
    for name, value in parameters.items():
        kind = value.WhichOneof("parameter_choice")
        found[name] = getattr(value, kind) if kind else None
    return found
