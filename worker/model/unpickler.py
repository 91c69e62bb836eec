"""Reading of joblib pickles that refuses everything but the parts of fitted estimators.

This is a second line of defence: the digest of an artifact has been checked against its manifest before. It refuses the
classes and functions by which a pickle runs code, but it is no sandbox: a model store that strangers may write to needs
skops.

It is built on internals of joblib and pickle: joblib's `NumpyUnpickler` (a subclass of the pure-Python unpickler, with
its table `dispatch`), `NumpyArrayWrapper` and `_validate_fileobject_and_memmap`, and `pickle._Unpickler.load_build`.
"""

import inspect
import io
import math
import os
import pickle
import types
import weakref
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from joblib.numpy_pickle_utils import _validate_fileobject_and_memmap as decompressed

from headrace.errors import ArtifactInvalid
from worker.model.allow_list import TRUE_NAMES, may_be_called, may_be_held, may_import, within

OBJECT_BYTES = 150
"""Bytes of memory that a Python object takes beyond its bytes in the stream, about: headers, dictionaries, references.
"""

MAPPED_ARRAY_BYTES = 1_000_000
"""Bytes of an array from which on it is mapped if it comes from a file: smaller ones gain nothing."""


def unpickle(content: bytes | BinaryIO, trusted_modules: Collection[str] = ()) -> tuple[Any, int]:
    """Read a joblib pickle, compressed or not.

    Args:
        content: The pickle as bytes, or as a file on disk. Large arrays of an uncompressed file are mapped read-only.
        trusted_modules: Packages or modules of which the pickle may use everything.

    Returns:
        The object, and about how many bytes of memory it takes. The estimate is the length of the uncompressed stream,
        in which arrays dominate, plus OBJECT_BYTES for each object. Mapped arrays that the object still holds are not
        in the estimate: the page cache has them, once for all processes.

    Raises:
        ArtifactInvalid: if the pickle needs an object that is not trusted. The object was neither imported nor run.
        Exception: any error to which a damaged pickle leads.
    """
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    with decompressed(source, "") as (stream, _):
        if isinstance(stream, str):
            raise ArtifactInvalid("written by joblib older than 0.10")
        unpickler = _Unpickler(stream, trusted_modules)
        if stream is content:
            # The stream is the file itself only if the file is not compressed.
            unpickler.map_file(content)
        value = unpickler.load()
        size_bytes = int(stream.tell()) + OBJECT_BYTES * unpickler.n_objects - unpickler.release_mapped_bytes()
        if stream.read(1):
            raise ArtifactInvalid("something follows the estimator")
        return value, size_bytes


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]
    """joblib's unpickler with a check at each of the ways in which a pickle can reach code.

    A pickle is a program for a stack machine. It can look up a name (`find_class`), call an object (opcode REDUCE,
    `load_reduce`) and change the state of an object (opcode BUILD, `load_build`). The opcodes INST and OBJ call as
    well, but only Python 2 wrote them. The remaining opcodes build plain values, or instances of a class that
    `find_class` let through.
    """

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, stream: Any, trusted_modules: Collection[str]) -> None:
        super().__init__("", stream, True)
        self._stream = stream
        self._trusted_modules = trusted_modules
        self._callable_functions: list[Any] = []
        self._n_inner_objects = 0
        self._file: Any = None
        self._mapped: list[tuple[weakref.ref[Any], int]] = []
        """Each mapped array, and its number of bytes."""

    def map_file(self, file: BinaryIO) -> None:
        """Map large arrays of a file instead of reading them, all by one mapping: each needs a file descriptor."""
        self._file = np.memmap(file, mode="r")
        file.seek(0)

    @property
    def n_objects(self) -> int:
        """Objects that were read and can be referred to, about."""
        return len(self.memo) + self._n_inner_objects

    def release_mapped_bytes(self) -> int:
        """Drop the objects of the memo, and return the bytes of the mapped arrays that the result still holds.

        Other mapped arrays are gone, because the object has copied them, as trees do. Nothing can be read after this.
        """
        self.memo.clear()
        return sum(n_bytes for array, n_bytes in self._mapped if array() is not None)

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a name in a module, if it is trusted."""
        if self.proto < 3:
            # These protocols use the names of Python 2.
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        module = TRUE_NAMES.get(module, module)
        is_trusted = within(module, self._trusted_modules)
        # A dotted name leads through any attribute: through the imports of a module, and so to `os.system`.
        if "." in name or not (is_trusted or may_import(module, name)):
            raise _untrusted(f"{module}.{name}")
        found = super().find_class(module, name)
        if is_trusted or may_be_called(module, name):
            self._callable_functions.append(found)
        elif not may_be_held(found, module, name):
            raise _untrusted(f"{module}.{name}")
        return found

    def load_reduce(self) -> None:
        """Call the object below the top of the stack, if it is a class or a function that may be called."""
        function = self.stack[-2]
        if not isinstance(function, type) and not any(function is each for each in self._callable_functions):
            raise _untrusted(f"a call of {getattr(function, '__qualname__', type(function).__name__)}")
        super().load_reduce()

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_build(self) -> None:
        """Set the state of the object below the top of the stack; replace a joblib wrapper by its array."""
        target = self.stack[-2]
        # Classes, modules and functions are shared: a change would reach the other models of this process.
        if isinstance(target, type | types.ModuleType | np.ufunc) or _is_function(target):
            raise _untrusted(f"a change of {target.__name__}")
        # joblib's own load_build is skipped: it reads arrays of objects with an unpickler that trusts everything.
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        if isinstance(self.stack[-1], NumpyArrayWrapper):
            self.stack.append(self._read_array(self.stack.pop()))

    dispatch[pickle.BUILD[0]] = load_build

    def _refuse(self) -> None:
        raise _untrusted("a call in a form that only Python 2 wrote")

    dispatch[pickle.INST[0]] = _refuse
    dispatch[pickle.OBJ[0]] = _refuse

    def _read_array(self, wrapper: Any) -> Any:
        """Return the array that follows its wrapper in the stream, mapped if possible."""
        if self._can_be_mapped(wrapper):
            return self._map_array(wrapper)
        if not wrapper.dtype.hasobject:
            return wrapper.read(self, True)
        # joblib 1.5 would read an array of objects with an unpickler that trusts everything.
        inner = _Unpickler(self._stream, self._trusted_modules)
        array = inner.load()
        self._n_inner_objects += inner.n_objects
        return array

    def _can_be_mapped(self, wrapper: Any) -> bool:
        dtype = wrapper.dtype
        return (
            self._file is not None
            and wrapper.allow_mmap is True
            and wrapper.subclass in (np.ndarray, np.memmap)
            and isinstance(dtype, np.dtype)
            and dtype.isnative
            and not dtype.hasobject
            # joblib before 1.2 did not align arrays.
            and wrapper.safe_get_numpy_array_alignment_bytes() is not None
            and math.prod(wrapper.shape) * dtype.itemsize >= MAPPED_ARRAY_BYTES
        )

    def _map_array(self, wrapper: Any) -> Any:
        # joblib writes the number of padding bytes in one byte, then the padding that aligns the array.
        (padding,) = self._stream.read(1)
        start = self._stream.seek(padding, os.SEEK_CUR)
        n_bytes = math.prod(wrapper.shape) * wrapper.dtype.itemsize
        array = self._file[start : start + n_bytes].view(wrapper.dtype).reshape(wrapper.shape, order=wrapper.order)
        if not array.flags.aligned:
            raise ValueError("an array is not aligned")
        self._stream.seek(start + n_bytes)
        self._mapped.append((weakref.ref(array), n_bytes))
        return array


def _is_function(target: Any) -> bool:
    return inspect.isroutine(target) or type(target).__name__ == "cython_function_or_method"


def _untrusted(needed: str) -> ArtifactInvalid:
    return ArtifactInvalid(f"it needs {needed}, which is not trusted (TRUSTED_MODULES names modules that are)")
