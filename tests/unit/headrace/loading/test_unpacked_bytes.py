"""Pickles that unpack to much more than they have: each is refused before it has taken the memory."""

import io
import pickle
import struct
import tracemalloc
from typing import Any

import joblib
import numpy as np
import pytest
from joblib.numpy_pickle import NumpyArrayWrapper

from headrace.errors import ArtifactInvalid
from headrace.loading import bounds
from headrace.loading.unpickler import unpickle

BOUND = 4_000_000
LARGE = 40_000_000
PEAK = 30_000_000
TOO_MUCH = "it unpacks to more than the 4,000,000 bytes that it may take"


def dumped(value: Any, compress: Any = 0) -> bytes:
    stream = io.BytesIO()
    joblib.dump(value, stream, compress=compress)
    return stream.getvalue()


def compressed(content: bytes) -> bytes:
    """Return a pickle as joblib compresses it."""
    stream = io.BytesIO()
    with joblib.numpy_pickle_utils._write_fileobject(stream, compress=("zlib", 1)) as file:
        file.write(content)
    return stream.getvalue()


def claimed(shape: tuple[int, ...], dtype: Any = "f8", content: bytes = b"") -> bytes:
    """Return the pickle of an array that claims a shape."""
    wrapper = NumpyArrayWrapper(np.ndarray, shape, "C", np.dtype(dtype), allow_mmap=True)
    head = pickle.dumps(wrapper, protocol=4)
    return head[:-1] + b"\x00" + content + b"."


PICKLES = {
    "one array": lambda: dumped(np.zeros(LARGE // 8), ("zlib", 1)),
    "many arrays": lambda: dumped([np.zeros(10_000) for _ in range(LARGE // 80_000)], ("zlib", 1)),
    "an array in an array of objects": lambda: dumped(np.array([np.zeros(LARGE // 8), 1], dtype=object), ("zlib", 1)),
    "bytes": lambda: dumped(bytes(LARGE), ("zlib", 1)),
    "a text": lambda: dumped("a" * LARGE, ("zlib", 1)),
    "a whole number": lambda: compressed(b"\x80\x04\x8b" + struct.pack("<i", LARGE) + bytes(LARGE) + b"."),
    "a frame": lambda: compressed(b"\x80\x04" + pickle.FRAME + struct.pack("<Q", LARGE) + b"N" * LARGE),
    "a line of protocol 0": lambda: compressed(b"V" + b"a" * LARGE + b"\n."),
}


@pytest.mark.parametrize("name", PICKLES)
def test_what_unpacks_to_too_much_is_refused(name: str) -> None:
    content = PICKLES[name]()
    assert len(content) < BOUND // 10
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactInvalid, match=f"{TOO_MUCH}|it has a larger frame than picklers write"):
            unpickle(content, max_bytes=BOUND)
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()


def test_opcodes_that_leave_nothing_have_a_bound_too() -> None:
    with pytest.raises(ArtifactInvalid, match="it unpacks to more than the 20,000 bytes that it may take"):
        unpickle(compressed(b"\x80\x04" + b"N0" * 20_000 + b"N."), max_bytes=20_000)


CLAIMS = {
    "an array": lambda: claimed((10**9,)),
    "an array of records": lambda: claimed((1,), "V2000000000"),
    "an array in a compressed file": lambda: compressed(claimed((10**9,))),
    "bytes": lambda: b"\x80\x04" + pickle.BINBYTES8 + struct.pack("<Q", 10**11) + b"a.",
    "an array of bytes": lambda: b"\x80\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 10**11) + b"a.",
    "a text": lambda: b"\x80\x04" + pickle.BINUNICODE8 + struct.pack("<Q", 10**11) + b"a.",
    "a frame": lambda: b"\x80\x04" + pickle.FRAME + struct.pack("<Q", 10**11) + b"N.",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_claims_to_be_huge_takes_no_memory(name: str) -> None:
    content = CLAIMS[name]()
    tracemalloc.start()
    try:
        with pytest.raises((ArtifactInvalid, EOFError, ValueError, pickle.UnpicklingError)):
            unpickle(content, max_bytes=BOUND)
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("framed", [False, True])
def test_objects_that_take_more_memory_than_bytes_are_refused(framed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set takes 216 bytes, and its opcode one."""
    private = iter([0, 0, *[10**12] * 1000])
    monkeypatch.setattr(bounds, "_private_bytes", lambda: next(private))
    monkeypatch.setattr(bounds, "CHECKED_EVERY_BYTES", 10_000)
    sets = pickle.EMPTY_SET * 5_000
    head = pickle.FRAME + struct.pack("<Q", len(sets)) if framed else b""

    with pytest.raises(ArtifactInvalid, match="it takes more memory than the 4,000,000 bytes that it may take"):
        unpickle(compressed(b"\x80\x04" + (head + sets) * 7 + b"."), max_bytes=BOUND)


def test_what_fits_is_read() -> None:
    array = np.arange(100_000.0)

    found, size_bytes = unpickle(dumped(array, ("zlib", 1)), max_bytes=BOUND)

    assert np.array_equal(found, array)
    assert array.nbytes < size_bytes < BOUND


def test_an_array_of_bytes_is_read() -> None:
    assert unpickle(pickle.dumps(bytearray(b"abc"), protocol=5))[0] == bytearray(b"abc")
