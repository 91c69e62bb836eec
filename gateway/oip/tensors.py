"""Tensors of inference requests: JSON, or bytes behind the JSON (the extension for binary tensor data)."""

import math
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import orjson

from gateway.errors import InvalidJson, InvalidTensors

NAME_MAX_CHARACTERS = 256
ID_MAX_CHARACTERS = 1024
DIMENSIONS_MAX = 8

UNSUPPORTED = ("sequence_", "shared_memory_")
"""Beginnings of parameters that ask for what would change the answer, and that this server does not have."""


class Datatype(NamedTuple):
    """A type of the values of a tensor."""

    code: str
    """Format of one value in the module `struct`; empty for texts."""
    types: frozenset[type]
    """Python types of the values in JSON; empty if they come as bytes only."""


_INTEGERS, _NUMBERS = frozenset([int]), frozenset([int, float])

DATATYPES: dict[str, Datatype] = {
    "BOOL": Datatype("?", frozenset([bool])),
    "UINT8": Datatype("B", _INTEGERS),
    "UINT16": Datatype("H", _INTEGERS),
    "UINT32": Datatype("I", _INTEGERS),
    "UINT64": Datatype("Q", _INTEGERS),
    "INT8": Datatype("b", _INTEGERS),
    "INT16": Datatype("h", _INTEGERS),
    "INT32": Datatype("i", _INTEGERS),
    "INT64": Datatype("q", _INTEGERS),
    "FP16": Datatype("e", frozenset()),
    "FP32": Datatype("f", _NUMBERS),
    "FP64": Datatype("d", _NUMBERS),
    "BYTES": Datatype("", frozenset([str])),
}
"""The datatypes of the protocol by name, but for BF16."""


@dataclass(frozen=True)
class Tensor:
    """An input of a request."""

    name: str
    datatype: str
    shape: list[int]
    values: Sequence[Any]
    """The values in row-major order; None for null."""


@dataclass(frozen=True)
class AskedOutput:
    """An output that a request asks for."""

    name: str
    binary: bool


@dataclass(frozen=True)
class InferRequest:
    """An inference request."""

    id: str | None
    parameters: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[AskedOutput]
    """Empty if the request asks for all."""

    @property
    def binary_by_default(self) -> bool:
        """True if outputs are wanted as bytes unless the request says otherwise."""
        return self.parameters.get("binary_data_output") is True


def read_request(
    body: bytes, json_bytes: bytes | None, values_max: int, check_parts: Callable[[bytes], None] = lambda _: None
) -> InferRequest:
    """Read an inference request.

    Args:
        body: the body.
        json_bytes: the header `Inference-Header-Content-Length`, if there is one: the length of the JSON, behind which
            the bytes of tensors follow.
        values_max: the most values that the tensors may have together.
        check_parts: called with the JSON before it is parsed.

    Raises:
        InvalidJson: if the JSON is none.
        InvalidTensors: if it is no inference request.
    """
    n_json = len(body)
    if json_bytes is not None:
        # Nineteen digits are more than any body has.
        if not json_bytes.isdigit() or len(json_bytes) > 19 or not 0 < int(json_bytes) <= len(body):
            raise InvalidTensors("Inference-Header-Content-Length is not the length of a JSON object in the body")
        n_json = int(json_bytes)
    text = body[:n_json]
    check_parts(text)
    try:
        content = orjson.loads(text)
    except ValueError as error:
        raise InvalidJson(f"Invalid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidTensors("an inference request is an object")
    request_id = content.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= ID_MAX_CHARACTERS):
        raise InvalidTensors(f"id is a text of at most {ID_MAX_CHARACTERS} characters")
    parameters = _parameters(content, "the request")
    outputs = [
        _asked_output(each, parameters.get("binary_data_output") is True) for each in _objects(content, "outputs")
    ]
    tensors = _TensorReader(memoryview(body)[n_json:], values_max)
    inputs = [tensors.read(each) for each in _objects(content, "inputs")]
    tensors.check_end()
    if not inputs:
        raise InvalidTensors("inputs is a list of at least one tensor")
    if len({each.name for each in inputs}) < len(inputs):
        raise InvalidTensors("two inputs have the same name")
    return InferRequest(request_id, parameters, inputs, outputs)


class _TensorReader:
    """A reader of tensors, some of which have their values in the bytes behind the JSON, one tensor after another."""

    def __init__(self, binary: memoryview, values_max: int) -> None:
        self._binary = binary
        self._values_left = values_max

    def read(self, content: dict[str, Any]) -> Tensor:
        """Return the tensor of an object of JSON.

        Raises:
            InvalidTensors: if it is none.
        """
        name = _name(content, "an input")
        parameters = _parameters(content, "an input")
        datatype, shape = content.get("datatype"), self._shape(content.get("shape"))
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            raise InvalidTensors(f"the datatype of an input is one of {', '.join(DATATYPES)}")
        n_values = math.prod(shape)
        n_bytes = parameters.get("binary_data_size")
        if (n_bytes is None) == ("data" not in content):
            raise InvalidTensors("an input has either data or the parameter binary_data_size")
        if n_bytes is None:
            return Tensor(name, datatype, shape, _json_values(content["data"], datatype, shape))
        return Tensor(name, datatype, shape, self._binary_values(n_bytes, datatype, n_values))

    def check_end(self) -> None:
        """Check that all bytes belong to a tensor.

        Raises:
            InvalidTensors: if some are left.
        """
        if self._binary:
            raise InvalidTensors(f"{len(self._binary)} bytes follow the values of the last tensor")

    def _shape(self, shape: Any) -> list[int]:
        if not isinstance(shape, list) or not 0 < len(shape) <= DIMENSIONS_MAX:
            raise InvalidTensors(f"the shape of an input is a list of one to {DIMENSIONS_MAX} whole numbers")
        if any(type(size) is not int or size < 0 for size in shape):
            raise InvalidTensors("the shape of an input has a dimension that is no whole number of 0 or more")
        self._values_left -= math.prod(shape)
        if self._values_left < 0:
            raise InvalidTensors("the inputs have more values than the largest request of this model")
        return shape

    def _binary_values(self, n_bytes: Any, datatype: str, n_values: int) -> Sequence[Any]:
        if type(n_bytes) is not int or not 0 <= n_bytes <= len(self._binary):
            raise InvalidTensors("binary_data_size is no number of bytes that follow the JSON")
        content, self._binary = self._binary[:n_bytes], self._binary[n_bytes:]
        code = DATATYPES[datatype].code
        if not code:
            return _texts(content, n_values)
        if n_bytes != n_values * struct.calcsize(code):
            raise InvalidTensors(f"{n_bytes} bytes are not {n_values} values of {datatype}")
        if code in "?e":
            return struct.unpack(f"<{n_values}{code}", content)
        values = array(code, content.tobytes())
        if sys.byteorder == "big":
            values.byteswap()
        return values


def _texts(content: memoryview, n_values: int) -> list[str]:
    """Return the values of type BYTES: each is its length in four bytes, and a text in UTF-8."""
    texts: list[str] = []
    at = 0
    try:
        while len(texts) < n_values:
            (length,) = struct.unpack_from("<I", content, at)
            end = at + 4 + length
            if end > len(content):
                break
            texts.append(str(content[at + 4 : end], "utf-8"))
            at = end
    except struct.error:
        at = -1
    except UnicodeDecodeError:
        raise InvalidTensors("a value of type BYTES is no text in UTF-8") from None
    if at != len(content) or len(texts) < n_values:
        raise InvalidTensors(f"{len(content)} bytes are not {n_values} values of BYTES, each with its length before it")
    return texts


def _json_values(data: Any, datatype: str, shape: list[int]) -> list[Any]:
    """Return the values of nested lists, or of a flat one."""
    values = [data]
    for size in shape if isinstance(data, list) and list in map(type, data) else [math.prod(shape)]:
        if set(map(type, values)) - {list} or set(map(len, values)) - {size}:
            raise InvalidTensors("the data of an input has another number of values than its shape says")
        values = [*chain.from_iterable(values)]
    types = set(map(type, values)) - {type(None)}
    if not types <= DATATYPES[datatype].types:
        raise InvalidTensors(_wrong_values(datatype))
    if datatype[-1].isdigit() and "INT" in datatype and types:
        present = [value for value in values if value is not None]
        bits = int(datatype.lstrip("UINT"))
        least, most = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if min(present) < least or max(present) > most:
            raise InvalidTensors(f"a value is out of the range of {datatype}")
    return values


def _wrong_values(datatype: str) -> str:
    if not DATATYPES[datatype].types:
        return f"values of {datatype} come as bytes only"
    return f"a value is not of the datatype {datatype}, nor null"


def _asked_output(content: dict[str, Any], binary_by_default: bool) -> AskedOutput:
    binary = _parameters(content, "an output").get("binary_data", binary_by_default)
    if not isinstance(binary, bool):
        raise InvalidTensors("binary_data is true or false")
    return AskedOutput(_name(content, "an output"), binary)


def _objects(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    objects = content.get(name)
    if objects is None:
        return []
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        raise InvalidTensors(f"{name} is a list of objects")
    return objects


def _name(content: dict[str, Any], owner: str) -> str:
    name = content.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX_CHARACTERS:
        raise InvalidTensors(f"{owner} has a name of 1 to {NAME_MAX_CHARACTERS} characters")
    return name


def _parameters(content: dict[str, Any], owner: str) -> dict[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidTensors(f"the parameters of {owner} are an object")
    for name in parameters:
        if name.startswith(UNSUPPORTED):
            raise InvalidTensors("sequences and shared memory are not supported")
    return parameters
