"""Reads joblib pickles, and refuses all but what fitted estimators are made of.

A second line of defence: artifacts come here after their digest was found to be the manifest's. It refuses the classes
and functions by which a pickle runs code, but it is no sandbox: a model store that strangers may write to needs skops.
"""

import inspect
import io
import pickle
import types
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from joblib.numpy_pickle_utils import _validate_fileobject_and_memmap as decompressed

from shared.errors import ArtifactInvalid
from worker.trust import TRUE_NAMES, may_be_called, may_be_held, may_import, within

OBJECT_BYTES = 150
"""What a Python object takes in memory beyond its bytes in the stream, about: headers, dictionaries, references."""


def unpickle(content: bytes, trusted_modules: Collection[str] = ()) -> tuple[Any, int]:
    """The object in a joblib pickle, compressed or not, and about how many bytes of memory it takes.

    The estimate is the length of the stream without compression, which arrays dominate, and OBJECT_BYTES for each
    object. `trusted_modules` are packages or modules of which everything may be used.

    Raises:
        ArtifactInvalid: if it needs something that is not trusted. Nothing of that has run, nor was it imported.
        Exception: whatever a damaged pickle leads to.
    """
    with decompressed(io.BytesIO(content), "") as (stream, _):
        if isinstance(stream, str):
            raise ArtifactInvalid("written by joblib older than 0.10")
        unpickler = _Unpickler(stream, trusted_modules)
        value = unpickler.load()
        size_bytes = int(stream.tell()) + OBJECT_BYTES * unpickler.objects
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
        if not wrapper.dtype.hasobject:
            return wrapper.read(self, True)
        # joblib 1.5 reads arrays of objects with an unpickler that trusts everything.
        inner = _Unpickler(self._stream, self._trusted_modules)
        array = inner.load()
        self._inner_objects += inner.objects
        return array

    def _refuse(self) -> None:
        raise _untrusted("a call in a form that only Python 2 wrote")

    dispatch[pickle.INST[0]] = _refuse
    dispatch[pickle.OBJ[0]] = _refuse


def _is_function(target: Any) -> bool:
    return inspect.isroutine(target) or type(target).__name__ == "cython_function_or_method"


def _untrusted(what: str) -> ArtifactInvalid:
    return ArtifactInvalid(f"it needs {what}, which is not trusted (TRUSTED_MODULES names modules that are)")
