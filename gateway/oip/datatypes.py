"""Datatypes of the protocol, and values of them: in bytes, or in the lists of JSON."""

import math
import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from gateway.errors import InvalidTensors


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


def values_in_bytes(content: memoryview, datatype: str, n_values: int) -> Sequence[Any]:
    """Return values that are given as they are in memory, little-endian.

    Raises:
        InvalidTensors: if there are more or fewer, or a text is none.
    """
    code = DATATYPES[datatype].code
    if not code:
        return _texts(content, n_values)
    if len(content) != n_values * struct.calcsize(code):
        raise InvalidTensors(f"{len(content)} bytes are not {n_values} values of {datatype}")
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


def values_of(data: Any, datatype: str, shape: list[int]) -> list[Any]:
    """Return the values of nested lists, or of a flat one.

    Raises:
        InvalidTensors: if they are not those of a datatype and a shape.
    """
    values = [data]
    for size in shape if isinstance(data, list) and list in map(type, data) else [math.prod(shape)]:
        if set(map(type, values)) - {list} or set(map(len, values)) - {size}:
            raise InvalidTensors("the data has another number of values than the shape says")
        values = [*chain.from_iterable(values)]
    types = set(map(type, values)) - {type(None)}
    wrong = types - DATATYPES[datatype].types
    if wrong:
        at = next(at for at, value in enumerate(values) if type(value) in wrong)
        raise InvalidTensors(wrong_values(datatype, _row(at, shape)))
    if datatype[-1].isdigit() and "INT" in datatype and types:
        present = [value for value in values if value is not None]
        bits = int(datatype.lstrip("UINT"))
        least, most = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if min(present) < least or max(present) > most:
            at = next(at for at, value in enumerate(values) if value is not None and not least <= value <= most)
            raise InvalidTensors(f"a value is out of the range of {datatype}{_row(at, shape)}")
    return values


def _row(at: int, shape: list[int]) -> str:
    """Return words for the row of the first wrong value, whose position among all values of a shape is this."""
    return f", the first one in row {at // math.prod(shape[1:])} (counted from 0)"


def wrong_values(datatype: str, place: str = "") -> str:
    """Return what is wrong with values that a datatype does not have in this form, with words for their place."""
    if not DATATYPES[datatype].types:
        return f"values of {datatype} come as bytes only"
    return f"a value is not of the datatype {datatype}, nor null{place}"
