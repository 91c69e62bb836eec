"""Reads joblib pickles, and refuses all but what fitted estimators are made of.

A second line of defence: artifacts come here after their digest was found to be the manifest's. It refuses the classes
and functions by which a pickle runs code, but it is no sandbox: a model store that strangers may write to needs skops.
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
"""What a Python object takes in memory beyond its bytes in the stream, about: headers, dictionaries, references."""


MAPPED_ARRAY_BYTES = 1_000_000
"""Arrays of a file from this size on are mapped: smaller ones gain nothing."""


def unpickle(content: bytes | BinaryIO, trusted_modules: Collection[str] = ()) -> tuple[Any, int]:
    """The object in a joblib pickle, compressed or not, and about how many bytes of memory it takes.

    The estimate is the length of the stream without compression, which arrays dominate, and OBJECT_BYTES for each
    object. `trusted_modules` are packages or modules of which everything may be used.

    Given a file on the disk instead of bytes, large arrays of an uncompressed pickle are mapped read-only. Those that
    the object holds on to are not in the estimate: the page cache has them, once for all processes.

    Raises:
        ArtifactInvalid: if it needs something that is not trusted. Nothing of that has run, nor was it imported.
        Exception: whatever a damaged pickle leads to.
    """
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    with decompressed(source, "") as (stream, _):
        if isinstance(stream, str):
            raise ArtifactInvalid("written by joblib older than 0.10")
        unpickler = _Unpickler(stream, trusted_modules)
        if stream is content:
            unpickler.map_file(content)
        value = unpickler.load()
        size_bytes = int(stream.tell()) + OBJECT_BYTES * unpickler.objects - unpickler.mapped_bytes()
        if stream.read(1):
            raise ArtifactInvalid("something follows the estimator")
        return value, size_bytes


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]
    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, stream: Any, trusted_modules: Collection[str]) -> None:
        super().__init__("", stream, True)
        self._stream = stream
        self._trusted_modules = trusted_modules
        self._callable: list[Any] = []
        self._inner_objects = 0
        self._file: Any = None
        self._mapped: list[tuple[weakref.ref[Any], int]] = []

    def map_file(self, file: BinaryIO) -> None:
        """Map large arrays instead of reading them: all by one mapping, since each needs a file descriptor."""
        self._file = np.memmap(file, mode="r")
        file.seek(0)

    def mapped_bytes(self) -> int:
        """Bytes of the mapped arrays that are still held; others were copied, as trees do. Ends the reading."""
        self.memo.clear()
        return sum(n_bytes for array, n_bytes in self._mapped if array() is not None)

    @property
    def objects(self) -> int:
        """Objects that were read and could be referred to, about."""
        return len(self.memo) + self._inner_objects

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle calls by its name, if it is trusted."""
        if self.proto < 3:
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        module = TRUE_NAMES.get(module, module)
        trusted = within(module, self._trusted_modules)
        # A dotted name leads through any attribute: every module's imports, and so to `os.system`.
        if "." in name or not (trusted or may_import(module, name)):
            raise _untrusted(f"{module}.{name}")
        found = super().find_class(module, name)
        if trusted or may_be_called(module, name):
            self._callable.append(found)
        elif not may_be_held(found, module, name):
            raise _untrusted(f"{module}.{name}")
        return found

    def load_reduce(self) -> None:
        function = self.stack[-2]
        if not isinstance(function, type) and not any(function is each for each in self._callable):
            raise _untrusted(f"a call of {getattr(function, '__qualname__', type(function).__name__)}")
        super().load_reduce()

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_build(self) -> None:
        target = self.stack[-2]
        # Their state is everybody's: other models use them too.
        if isinstance(target, type | types.ModuleType | np.ufunc) or _is_function(target):
            raise _untrusted(f"a change of {target.__name__}")
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        if isinstance(self.stack[-1], NumpyArrayWrapper):
            self.stack.append(self._array(self.stack.pop()))

    dispatch[pickle.BUILD[0]] = load_build

    def _array(self, wrapper: Any) -> Any:
        if self._may_map(wrapper):
            return self._map(wrapper)
        if not wrapper.dtype.hasobject:
            return wrapper.read(self, True)
        # joblib 1.5 reads arrays of objects with an unpickler that trusts everything.
        inner = _Unpickler(self._stream, self._trusted_modules)
        array = inner.load()
        self._inner_objects += inner.objects
        return array

    def _may_map(self, wrapper: Any) -> bool:
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

    def _map(self, wrapper: Any) -> Any:
        (padding,) = self._stream.read(1)
        start = self._stream.seek(padding, os.SEEK_CUR)
        n_bytes = math.prod(wrapper.shape) * wrapper.dtype.itemsize
        array = self._file[start : start + n_bytes].view(wrapper.dtype).reshape(wrapper.shape, order=wrapper.order)
        if not array.flags.aligned:
            raise ValueError("an array is not aligned")
        self._stream.seek(start + n_bytes)
        self._mapped.append((weakref.ref(array), n_bytes))
        return array

    def _refuse(self) -> None:
        raise _untrusted("a call in a form that only Python 2 wrote")

    dispatch[pickle.INST[0]] = _refuse
    dispatch[pickle.OBJ[0]] = _refuse


def _is_function(target: Any) -> bool:
    return inspect.isroutine(target) or type(target).__name__ == "cython_function_or_method"


def _untrusted(what: str) -> ArtifactInvalid:
    return ArtifactInvalid(f"it needs {what}, which is not trusted (TRUSTED_MODULES names modules that are)")
