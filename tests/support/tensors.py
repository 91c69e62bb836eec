"""A client of the Open Inference Protocol, written by its specification."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

DTYPES = {
    "FP64": "<f8",
    "FP32": "<f4",
    "FP16": "<f2",
    "INT64": "<i8",
    "INT32": "<i4",
    "INT8": "i1",
    "UINT8": "u1",
    "BOOL": "?",
}
LENGTH = "Inference-Header-Content-Length"


def tensor(name: str, datatype: str, values: Sequence[Any], shape: Sequence[int] | None = None) -> dict[str, Any]:
    """Return an input in JSON, by default a column."""
    return {"name": name, "datatype": datatype, "shape": [*(shape or (len(values), 1))], "data": [*values]}


def as_bytes(values: Sequence[Any], datatype: str) -> bytes:
    """Return values as bytes."""
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.asarray(values, dtype=DTYPES[datatype]).tobytes()


def binary_body(inputs: Sequence[dict[str, Any]], **members: Any) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request with all inputs in bytes, and its headers."""
    described, contents = [], []
    for each in inputs:
        contents.append(as_bytes(each["data"], each["datatype"]))
        parameters = {"binary_data_size": len(contents[-1])}
        described.append({**{name: each[name] for name in ("name", "datatype", "shape")}, "parameters": parameters})
    text = json.dumps({"inputs": described, **members}).encode()
    return b"".join([text, *contents]), {LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}


def outputs_of(response: httpx.Response) -> dict[str, NDArray[Any]]:
    """Return the outputs of a response by name, in JSON or in bytes."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.content)))
    content, rest = json.loads(response.content[:length]), response.content[length:]
    found = {}
    for output in content["outputs"]:
        if "data" in output:
            values = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            values, rest = _values(rest[:size], output["datatype"]), rest[size:]
        kind = object if output["datatype"] == "BYTES" else DTYPES[output["datatype"]]
        found[output["name"]] = np.array(values, dtype=kind).reshape(output["shape"])
    assert not rest
    return found


def _values(content: bytes, datatype: str) -> list[Any]:
    if datatype != "BYTES":
        numbers: list[Any] = np.frombuffer(content, DTYPES[datatype]).tolist()
        return numbers
    texts = []
    while content:
        (length,) = struct.unpack("<I", content[:4])
        texts.append(content[4 : 4 + length].decode())
        content = content[4 + length :]
    return texts
