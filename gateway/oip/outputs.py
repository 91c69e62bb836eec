"""Outputs of inference: predictions and probabilities as tensors, in JSON or in bytes behind it."""

import asyncio
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import orjson

from gateway.errors import InvalidTensors
from gateway.oip.datatypes import DATATYPES
from gateway.oip.tensors import AskedOutput, InferRequest
from headrace.models.fields import class_key
from headrace.models.manifest import Manifest
from shared.queue.replies import Result, unpacked_pieces

PREDICT, PROBABILITIES = "predict", "predict_proba"
ALIAS = "output-0"
"""Another name of the predictions, by which some clients ask."""

OUTPUTS_NAMED = 20
"""Outputs of a model that an error names at most."""


class OutputTensor(NamedTuple):
    """An output of a model."""

    name: str
    datatype: str
    width: int
    """Values of a row; 0 if the shape has one dimension only."""
    at: int | None = None
    """Position of the only output of the model that it has; None if it has all."""
    is_probability: bool = False


def outputs_of(manifest: Manifest) -> list[OutputTensor]:
    """Return the outputs of a model: its predictions, and the probabilities of the classes of each of its outputs."""
    many = len(manifest.outputs) > 1
    datatypes = [_datatype(manifest, at) for at in range(len(manifest.outputs))]
    if len(set(datatypes)) == 1:
        found = [OutputTensor(PREDICT, datatypes[0], len(datatypes) if many else 0)]
    else:
        found = [
            OutputTensor(f"{PREDICT}.{output.name}", datatype, 0, at)
            for at, (output, datatype) in enumerate(zip(manifest.outputs, datatypes, strict=True))
        ]
    if manifest.probabilities:
        found += [
            OutputTensor(
                f"{PROBABILITIES}.{output.name}" if many else PROBABILITIES, "FP64", len(output.classes or ()), at, True
            )
            for at, output in enumerate(manifest.outputs)
        ]
    return found


def asked_of(request: InferRequest, outputs: Sequence[OutputTensor]) -> list[tuple[OutputTensor, AskedOutput]]:
    """Return the outputs that a request asks for, in its order; all if it names none.

    Raises:
        InvalidTensors: if the model does not have one, or one is asked for twice, by whatever name: the answer would be
            larger than that to any other request of as many rows.
    """
    asked = request.outputs or [AskedOutput(output.name, request.binary_by_default) for output in outputs]
    known = {ALIAS: outputs[0], **{output.name: output for output in outputs}}
    if any(each.name not in known for each in asked):
        named = ", ".join(output.name for output in outputs[:OUTPUTS_NAMED])
        raise InvalidTensors(f"the outputs of this model are {named}{', …' if len(outputs) > OUTPUTS_NAMED else ''}")
    if len({known[each.name].name for each in asked}) < len(asked):
        raise InvalidTensors("an output is asked for twice")
    return [(known[each.name], each) for each in asked]


async def encoded_outputs(
    result: Result, asked: Iterable[tuple[OutputTensor, AskedOutput]]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the outputs as objects for JSON, and the bytes behind it."""
    objects: list[dict[str, Any]] = []
    binary: list[bytes] = []
    n_rows = len(result["predictions"])
    for output, each in asked:
        shape = [n_rows, output.width] if output.width else [n_rows]
        tensor: dict[str, Any] = {"name": each.name, "datatype": output.datatype, "shape": shape}
        if each.binary:
            content = await _binary(output, result)
            tensor["parameters"] = {"binary_data_size": len(content)}
            binary.append(content)
        else:
            tensor["data"] = _data(output, result)
        objects.append(tensor)
    return objects, binary


def _data(output: OutputTensor, result: Result) -> Any:
    """Return the values of an output for JSON."""
    if output.is_probability and isinstance(result["probabilities"], str):
        return orjson.Fragment(f"[{result['probabilities']}]")
    return _values(output, result)


def _values(output: OutputTensor, result: Result) -> list[Any]:
    """Return the values of an output, row after row."""
    if output.is_probability:
        rows = result["probabilities"]
        if rows and isinstance(rows[0][0], list):
            rows = [row[output.at or 0] for row in rows]
        return [*chain.from_iterable(rows)]
    values: list[Any] = result["predictions"]
    if output.at is not None:
        values = [row[output.at] for row in values]
    elif output.width:
        values = [*chain.from_iterable(values)]
    if output.datatype != "BYTES":
        return values
    keys = {value: class_key(value) for value in set(values)}
    return [*map(keys.__getitem__, values)]


async def _binary(output: OutputTensor, result: Result) -> bytes:
    if output.datatype == "BYTES":
        texts = _values(output, result)
        # There are few classes and many rows.
        packed = {text: struct.pack("<I", len(text.encode())) + text.encode() for text in set(texts)}
        return b"".join(map(packed.__getitem__, texts))
    if output.is_probability and isinstance(result["probabilities"], dict):
        return await _joined(unpacked_pieces(result["probabilities"]))
    code = DATATYPES[output.datatype].code
    if code == "?":
        return bytes(_values(output, result))
    numbers = array(code, _values(output, result))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


async def _joined(pieces: Iterable[bytes]) -> bytes:
    """Return the pieces one after another; others have their turn after each, which takes some 2 ms to make."""
    joined = bytearray()
    for piece in pieces:
        joined += piece
        await asyncio.sleep(0)
    return bytes(joined)


def _datatype(manifest: Manifest, at: int) -> str:
    """Return the datatype of the predictions of one output."""
    output = manifest.outputs[at]
    if output.kind == "number":
        return "FP64"
    values: Sequence[Any] = output.classes or [
        sample.prediction[at] if isinstance(sample.prediction, list) else sample.prediction
        for sample in manifest.samples
    ]
    types = set(map(type, values))
    return {frozenset([bool]): "BOOL", frozenset([int]): "INT64"}.get(frozenset(types), "BYTES")
