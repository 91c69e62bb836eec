"""Arrays of a joblib file, read or mapped, and their dtypes."""

import math
import os
import weakref
from typing import Any, BinaryIO

import numpy as np

from headrace.loading.bounds import BoundedStream
from headrace.loading.tokens import untrusted

MAPPED_ARRAY_BYTES = 1_000_000
"""Bytes of an array from which on it is mapped if it comes from a file: smaller ones gain nothing."""

READ_BYTES = 1 << 20
"""Bytes of an array that are read at a time: an array that claims to be larger than its file takes no memory for it."""

ALIGNED_STRUCT = 0x80
"""Flag of NumPy in the state of a dtype: its fields are aligned as those of a C struct."""

_WRAPPER_STATE = frozenset(["allow_mmap", "dtype", "numpy_array_alignment_bytes", "order", "shape", "subclass"])


class Arrays:
    """The arrays without objects in the uncompressed stream of a joblib file."""

    def __init__(self, stream: BoundedStream, mapped: BinaryIO | None = None) -> None:
        """Start at the beginning of a stream; `mapped` is its file, if large arrays are mapped read-only from it.

        There is one mapping for all of them, because each mapping needs a file descriptor.
        """
        self.stream = stream
        self._file = np.memmap(mapped, mode="r") if mapped else None
        self._mapped: list[tuple[weakref.ref[Any], int]] = []
        """Each mapped array, and its number of bytes."""
        if mapped:
            mapped.seek(0)

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the mapped arrays that are still in use; others were copied, as trees do."""
        return sum(n_bytes for array, n_bytes in self._mapped if array() is not None)

    def read(self, wrapper: Any) -> Any:
        """Return the array that follows its wrapper in the stream."""
        dtype, n_bytes = wrapper.dtype, math.prod(map(int, wrapper.shape)) * int(wrapper.dtype.itemsize)
        # joblib before 1.2 did not align arrays.
        is_aligned = wrapper.safe_get_numpy_array_alignment_bytes() is not None
        if is_aligned:
            # joblib writes the number of padding bytes in one byte, then the padding that aligns the array.
            (padding,) = self.stream.read(1)
            self.stream.read(padding)
        may_be_mapped = wrapper.allow_mmap is True and is_aligned and dtype.isnative and n_bytes >= MAPPED_ARRAY_BYTES
        if self._file is not None and may_be_mapped:
            return self._map(wrapper, n_bytes)
        array = np.ndarray(wrapper.shape, dtype, self._content(n_bytes), order=wrapper.order)
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))

    def _content(self, n_bytes: int) -> bytearray:
        content = bytearray()
        while missing := n_bytes - len(content):
            part = self.stream.read(min(missing, READ_BYTES))
            if not part:
                raise EOFError("an array ends early")
            content += part
        return content

    def _map(self, wrapper: Any, n_bytes: int) -> Any:
        assert self._file is not None
        start = self.stream.tell()
        array = self._file[start : start + n_bytes].view(wrapper.dtype).reshape(wrapper.shape, order=wrapper.order)
        if not array.flags.aligned:
            raise ValueError("an array is not aligned")
        self.stream.seek(n_bytes, os.SEEK_CUR)
        self._mapped.append((weakref.ref(array), n_bytes))
        return array


def described(wrapper: Any, state: Any) -> Any:
    """Return joblib's wrapper with its state, which describes the array that follows.

    Raises:
        ArtifactInvalid: if the state is no description of an array.
    """
    if not (
        type(state) is dict
        and set(state) <= _WRAPPER_STATE
        and isinstance(state.get("dtype"), np.dtype)
        and type(state.get("shape")) is tuple
        and all(isinstance(each, int | np.integer) and each >= 0 for each in state["shape"])
        and state.get("order") in ("C", "F")
    ):
        raise untrusted("an array of another form than joblib writes")
    wrapper.__dict__.update(state)
    return wrapper


def dtype_of(made: "np.dtype[Any]", state: Any) -> "np.dtype[Any]":
    """Return the dtype of a state, made by NumPy's documented constructor.

    The method of NumPy that sets a state trusts it: it takes an offset beyond the item, and "no objects" of a dtype of
    objects, whose bytes then become addresses.

    Args:
        made: The dtype of the code alone, such as `V8`.
        state: Version, byte order, subarray, names, fields, size, alignment, flags and, of times, the unit.

    Raises:
        Exception: if NumPy refuses the parts.
    """
    _, order, subarray, names, fields, size, _, flags, *unit = state
    if subarray is not None:
        base, shape = subarray
        return np.dtype((_dtype(base), shape))
    if names is not None:
        parts = [fields[name][:2] for name in names]
        formats, offsets = [_dtype(each) for each, _ in parts], [int(offset) for _, offset in parts]
        described = {"names": list(names), "formats": formats, "offsets": offsets, "itemsize": int(size)}
        return np.dtype(described, align=bool(flags & ALIGNED_STRUCT))  # type: ignore[call-overload,no-any-return]
    if made.kind in "mM" and unit:
        _, (name, number, *_) = unit[0]
        return np.dtype(f"{made.kind}8[{int(number)}{name.decode()}]").newbyteorder(order)
    return made.newbyteorder(order)


def _dtype(value: Any) -> "np.dtype[Any]":
    if not isinstance(value, np.dtype):
        raise TypeError("a part of a dtype is no dtype")
    return value
