"""Fields of a message before it is unpacked: two bytes of a message may take a hundred bytes of memory."""

from collections.abc import Iterator

from gateway.errors import InvalidTensors

FIELD_BYTES, FIELDS_MAX = 8, 40_000
"""Bytes that a field of a message has on the average, at least, and most fields of a message.

An input has a name, a datatype and a shape, in 14 bytes, and its values another field. There are 10,000 at most.
"""

_MALFORMED = "the message is no ModelInferRequest"
_NAMES = {1: "name", 2: "version"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


def model_of(message: bytes) -> dict[str, str]:
    """Return the `name` and the `version` of the model that a `ModelInferRequest` has, unless they are empty.

    Raises:
        InvalidTensors: if it is none, or has too many fields.
    """
    fields_max = min(FIELDS_MAX, 16 + len(message) // FIELD_BYTES)
    found: dict[str, bytes] = {}
    try:
        for n_before, (number, kind, content) in enumerate(_fields(message)):
            if n_before == fields_max:
                raise InvalidTensors("the message has too many fields for its length")
            if number in _NAMES and kind == _BYTES:
                found[_NAMES[number]] = bytes(content)
        return {name: value.decode() for name, value in found.items() if value}
    except (IndexError, UnicodeDecodeError):
        raise InvalidTensors(_MALFORMED) from None


def _fields(message: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Yield the number, the wire type and the content of each field, see protobuf.dev/programming-guides/encoding.

    Raises:
        IndexError: if the message ends within a field.
        InvalidTensors: if it has something else, such as a group.
    """
    view, at = memoryview(message), 0
    while at < len(message):
        tag, start = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(message, start)
        elif kind == _BYTES:
            length, start = _varint(message, start)
            at = start + length
        elif kind in (_FIXED64, _FIXED32):
            at = start + (8 if kind == _FIXED64 else 4)
        else:
            raise InvalidTensors(_MALFORMED)
        if at > len(message):
            raise IndexError
        yield tag >> 3, kind, view[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits in each byte, the lowest first, and the position behind it."""
    value = 0
    for n_before in range(_VARINT_BYTES_MAX):
        byte = message[at + n_before]
        value |= (byte & 127) << (7 * n_before)
        if byte < 128:
            return value, at + n_before + 1
    raise InvalidTensors(_MALFORMED)
