"""Tensors of inference requests: JSON, or bytes behind the JSON (the extension for binary tensor data)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.catalog.row_examiner import parse_json
from gateway.errors import InvalidTensors
from gateway.oip.datatypes import DATATYPES, values_in_bytes, values_of

NAME_MAX_CHARACTERS = 256
NAME_SHOWN_CHARACTERS = 64
"""Length to which the name of an input is cut in an error."""

ID_MAX_CHARACTERS = 1024
DIMENSIONS_MAX = 8

UNSUPPORTED = ("sequence_", "shared_memory_")
"""Beginnings of parameters that ask for what would change the answer, and that this server does not have."""

CLASSIFICATION = "classification"
"""Parameter of an output that asks for its greatest values with their classes in the place of a tensor."""


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
    content = parse_json(text)
    if not isinstance(content, dict):
        raise InvalidTensors("an inference request is an object")
    tensors = _BodyReader(memoryview(body)[n_json:], values_max)
    request = request_of(content, tensors)
    tensors.check_end()
    return request


def request_of(content: dict[str, Any], tensors: "TensorReader") -> InferRequest:
    """Return the inference request of an object, with the tensors that a reader finds in its inputs.

    Raises:
        InvalidTensors: if it is none.
    """
    request_id = content.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= ID_MAX_CHARACTERS):
        raise InvalidTensors(f"id is a text of at most {ID_MAX_CHARACTERS} characters")
    parameters = _parameters(content, "the request")
    outputs = [
        _asked_output(each, parameters.get("binary_data_output") is True) for each in _objects(content, "outputs")
    ]
    inputs = [tensors.read(each) for each in _objects(content, "inputs")]
    if not inputs:
        raise InvalidTensors("inputs is a list of at least one tensor")
    check_different([each.name for each in inputs])
    return InferRequest(request_id, parameters, inputs, outputs)


def check_different(names: Sequence[str]) -> None:
    """Check that no two inputs have the same name.

    Raises:
        InvalidTensors: if two have.
    """
    if len({*names}) < len(names):
        raise InvalidTensors("two inputs have the same name")


class TensorReader(ABC):
    """A reader of tensors."""

    def __init__(self, values_max: int) -> None:
        self._values_max = self._values_left = values_max

    def read(self, content: dict[str, Any]) -> Tensor:
        """Return the tensor of an object.

        Raises:
            InvalidTensors: if it is none.
        """
        name = _name(content, "an input")
        parameters = _parameters(content, "an input")
        datatype, shape = content.get("datatype"), self._shape(content.get("shape"))
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            raise InvalidTensors(f"the datatype of an input is one of {', '.join(DATATYPES)}")
        try:
            return Tensor(name, datatype, shape, self.values(content, parameters, datatype, shape))
        except InvalidTensors as error:
            raise InvalidTensors(f"input {name[:NAME_SHOWN_CHARACTERS]}: {error}") from None

    @abstractmethod
    def values(
        self, content: dict[str, Any], parameters: dict[str, Any], datatype: str, shape: list[int]
    ) -> Sequence[Any]:
        """Return the values of a tensor.

        Raises:
            InvalidTensors: if they are not those of its datatype and shape.
        """

    def _shape(self, shape: Any) -> list[int]:
        if not isinstance(shape, list) or not 0 < len(shape) <= DIMENSIONS_MAX:
            raise InvalidTensors(f"the shape of an input is a list of one to {DIMENSIONS_MAX} whole numbers")
        if any(type(size) is not int or size < 0 for size in shape):
            raise InvalidTensors("the shape of an input has a dimension that is no whole number of 0 or more")
        self._values_left -= math.prod(shape)
        if self._values_left < 0:
            raise InvalidTensors(
                f"the inputs have more than {self._values_max} values, the most of a request to this model"
            )
        return shape


class _BodyReader(TensorReader):
    """A reader of tensors in JSON, some of which have their values in the bytes behind it, one after another."""

    def __init__(self, binary: memoryview, values_max: int) -> None:
        super().__init__(values_max)
        self._binary = binary

    def values(
        self, content: dict[str, Any], parameters: dict[str, Any], datatype: str, shape: list[int]
    ) -> Sequence[Any]:
        """Return the values in `data`, or as many bytes as `binary_data_size` says."""
        n_bytes = parameters.get("binary_data_size")
        if (n_bytes is None) == ("data" not in content):
            raise InvalidTensors("either data or the parameter binary_data_size has the values")
        if n_bytes is None:
            return values_of(content["data"], datatype, shape)
        if type(n_bytes) is not int or not 0 <= n_bytes <= len(self._binary):
            raise InvalidTensors("binary_data_size is no number of bytes that follow the JSON")
        binary, self._binary = self._binary[:n_bytes], self._binary[n_bytes:]
        return values_in_bytes(binary, datatype, math.prod(shape))

    def check_end(self) -> None:
        """Check that all bytes belong to a tensor.

        Raises:
            InvalidTensors: if some are left.
        """
        if self._binary:
            raise InvalidTensors(f"{len(self._binary)} bytes follow the values of the last tensor")


def _asked_output(content: dict[str, Any], binary_by_default: bool) -> AskedOutput:
    parameters = _parameters(content, "an output")
    if parameters.get(CLASSIFICATION):
        raise InvalidTensors("class_count (classification) is not supported: ask for predict and predict_proba instead")
    binary = parameters.get("binary_data", binary_by_default)
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
