"""Reading of joblib pickles that takes the parts of fitted estimators and refuses everything else.

A pickle is a program for a stack machine, which can look up a name, call an object, make an object of a class, set the
state of an object, and put objects into containers. Each of these steps is checked here:

- A name gives a plain value (`names.VALUES`), or a token that can be called or made into an object, and nothing else.
- A call is one of `calls.CALLS`, with the arguments that the library writes.
- Objects are made without calling their class, and get a state of plain attributes (`states`).
- Only an object that the pickle itself has made gets a state, and only once. So it changes nothing that is shared, and
  frees no array that others look into.
- Only the containers of Python are filled, with keys that are hashed without code of their own.

The digest was checked before. This is a second line of defence and no sandbox: native code trusts its arrays.

It is built on internals of joblib and pickle: `NumpyUnpickler` (a subclass of the pure-Python unpickler, with its table
`dispatch`), `NumpyArrayWrapper` and `_validate_fileobject_and_memmap`, and `pickle._Unpickler`.
"""

import io
import pickle
import struct
import weakref
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterable
from typing import Any, BinaryIO

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from joblib.numpy_pickle_utils import _validate_fileobject_and_memmap as decompressed
from sklearn.utils import Bunch

from headrace.errors import ArtifactInvalid
from headrace.loading.arrays import Arrays, described, dtype_of
from headrace.loading.bounds import UNBOUNDED, BoundedStream
from headrace.loading.calls import STATEFUL, call, made
from headrace.loading.links import LINKED
from headrace.loading.makers import StandIn
from headrace.loading.names import NAMED_TUPLES, TRUE_MODULES, is_special
from headrace.loading.rules import can_be_made, find, find_trusted, within
from headrace.loading.states import check_estimator, set_state
from headrace.loading.tokens import Token, describe, is_plain, untrusted

OBJECT_BYTES = 150
"""Bytes of memory that a Python object takes beyond its bytes in the stream, about: headers and references."""

FRAME_BYTES_MAX = 1_000_000
"""Bytes of a frame; picklers end one after 64 KiB."""

_LISTS = (list, deque)
_DICTS = (dict, OrderedDict, defaultdict, Counter, Bunch)


def unpickle(
    content: bytes | BinaryIO, trusted_modules: Collection[str] = (), max_bytes: int = UNBOUNDED
) -> tuple[Any, int]:
    """Read a joblib pickle, compressed or not.

    Args:
        content: The pickle as bytes, or as a file that never changes. Large arrays of an uncompressed file are mapped
            read-only.
        trusted_modules: Packages or modules of which the pickle may use everything.
        max_bytes: The bound of the bytes to which the pickle unpacks.

    Returns:
        The object, and about how many bytes of memory it takes. The estimate is the length of the uncompressed stream,
        in which arrays dominate, plus OBJECT_BYTES for each object. While the object holds a mapped array, the whole
        file is in memory: then it counts, in the place of the mapped arrays.

    Raises:
        ArtifactInvalid: if the pickle needs an object that is not trusted, or unpacks to more than the bound. The
            object was neither imported nor run.
        Exception: any error to which a damaged pickle leads.
    """
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    with decompressed(source, "") as (stream, _):
        if isinstance(stream, str):
            raise ArtifactInvalid("written by joblib older than 0.10")
        # The stream is the file itself only if the file is not compressed.
        arrays = Arrays(BoundedStream(stream, max_bytes), mapped=content if stream is content else None)
        unpickler = _Unpickler(arrays, trusted_modules)
        value = unpickler.load()
        check_estimator(value)  # Again: a list may grow after the state of its owner was set.
        stream_bytes = int(stream.tell())
        size_bytes = stream_bytes + OBJECT_BYTES * unpickler.n_objects
        if arrays.mapped_bytes:
            size_bytes += stream_bytes - arrays.mapped_bytes
        if stream.read(1):
            raise ArtifactInvalid("something follows the estimator")
        return value, size_bytes


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]
    """joblib's unpickler with checks; the opcodes that are not overridden build plain values."""

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, arrays: Arrays, trusted_modules: Collection[str]) -> None:
        super().__init__("", arrays.stream, True)
        self._arrays = arrays
        self._trusted_modules = trusted_modules
        self._trusted: list[Any] = []
        """Objects of the trusted modules to which the pickle refers."""
        self._tokens: list[weakref.ref[Token]] = []
        self._unbuilt: dict[int, tuple[Any, bool, int]] = {}
        """Id of each object that the pickle has made and whose state is not set yet -> the object, True if its class
        is trusted, and its place in the memo."""
        self.n_objects = 0
        """Objects that were read and could be referred to, about."""

    def load(self) -> Any:
        """Read one object, the only one; ArtifactInvalid is raised if it holds a token."""
        value = super().load()
        self.n_objects += len(self.memo)
        self.memo.clear()
        if any(isinstance(each, LINKED) for each, *_ in self._unbuilt.values()):
            raise ArtifactInvalid("a tree has no nodes")
        self._unbuilt.clear()
        held = next((token for token in (each() for each in self._tokens) if token is not None), None)
        if held is not None:
            raise untrusted(held.path)
        return value

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a name in a module, or a token for it, if it is trusted."""
        if self.proto < 3:
            # These protocols use the names of Python 2.
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if within(TRUE_MODULES.get(module, module), self._trusted_modules):
            self._trusted.append(find_trusted(module, name, self._trusted_modules))
            return self._trusted[-1]
        found = find(module, name)
        if isinstance(found, Token):
            self._tokens.append(weakref.ref(found))
        return found

    def load_reduce(self) -> None:
        """Call the object below the top of the stack with the arguments at the top."""
        args = self.stack.pop()
        function = self.stack.pop()
        if isinstance(function, Token):
            value = call(function, args)
            if function.path in STATEFUL:
                self._push(value, is_trusted=False)
            else:
                self.append(value)
        elif self._is_trusted(function):
            self._push(function(*_targets(args)), is_trusted=True)
        else:
            raise untrusted(f"a call of {describe(function)}")

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        """Make an object of the class below the top of the stack."""
        self._make(self.stack.pop(), {})

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        """Make an object of a class with arguments by name, which only trusted classes take."""
        kwargs = self.stack.pop()
        self._make(self.stack.pop(), kwargs)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _make(self, args: Any, kwargs: Any) -> None:
        kind = self.stack.pop()
        if isinstance(kind, Token) and (can_be_made(kind) or kind.path in NAMED_TUPLES) and not kwargs:
            self._push(made(kind, args), is_trusted=False)
        elif self._is_trusted(kind):
            self._push(kind.__new__(kind, *_targets(args), **kwargs), is_trusted=True)
        else:
            raise untrusted(f"an object of {describe(kind)}")

    def _push(self, value: Any, *, is_trusted: bool) -> None:
        self._unbuilt[id(value)] = value, is_trusted, len(self.memo)
        self.append(value)

    def _is_trusted(self, value: Any) -> bool:
        return any(value is each for each in self._trusted)

    def load_build(self) -> None:
        """Set the state of the object below the top of the stack; replace a joblib wrapper by its array."""
        target = self.stack[-2]
        _, is_trusted, place = self._unbuilt.pop(id(target), (None, False, -1))
        if place < 0:
            # The object is shared with the other models of this process, or has its state.
            raise untrusted(f"a change of {describe(target)}")
        if is_trusted:
            pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
            return
        state = self.stack.pop()
        if isinstance(target, NumpyArrayWrapper):
            self.stack[-1] = self._read_array(described(target, state))
        elif isinstance(target, np.dtype | StandIn):
            self.stack[-1] = target.make(state) if isinstance(target, StandIn) else dtype_of(target, state)
            if self.memo.get(place) is target:
                self.memo[place] = self.stack[-1]
        else:
            set_state(target, state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_frame(self) -> None:
        """Begin a frame, which is read at once."""
        (n_bytes,) = struct.unpack("<Q", self.read(8))
        if n_bytes > FRAME_BYTES_MAX:
            raise ArtifactInvalid("it has a larger frame than picklers write")
        self._unframer.load_frame(n_bytes)

    dispatch[pickle.FRAME[0]] = load_frame

    def load_bytearray8(self) -> None:
        """Read an array of bytes; the method of the base class allocates its memory before."""
        (n_bytes,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(n_bytes)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def _refuse(self) -> None:
        raise untrusted("a call in a form that no library writes")

    for _code in (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID):
        dispatch[_code[0]] = _refuse

    def _check_container(self, container: Any, kinds: tuple[type, ...], keys: Iterable[Any] = ()) -> None:
        if self._is_trusted(type(container)):
            return
        if type(container) not in kinds:
            raise untrusted(f"a change of {describe(container)}")
        _check_keys(keys)
        # The items of a bunch are attributes.
        if type(container) is Bunch and any(map(is_special, keys)):
            raise untrusted("a special attribute of Bunch")

    def load_append(self) -> None:
        """Append the top of the stack to a list."""
        self._check_container(self.stack[-2], _LISTS)
        super().load_append()

    def load_appends(self) -> None:
        """Append the values since the last mark to a list."""
        self._check_container(self.metastack[-1][-1], _LISTS)
        super().load_appends()

    def load_setitem(self) -> None:
        """Put the pair at the top of the stack into a dictionary."""
        self._check_container(self.stack[-3], _DICTS, [self.stack[-2]])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Put the pairs since the last mark into a dictionary."""
        self._check_container(self.metastack[-1][-1], _DICTS, self.stack[::2])
        super().load_setitems()

    def load_additems(self) -> None:
        """Add the values since the last mark to a set."""
        self._check_container(self.metastack[-1][-1], (set,), self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """Make a frozen set of the values since the last mark."""
        _check_keys(self.stack)
        super().load_frozenset()

    def load_dict(self) -> None:
        """Make a dictionary of the pairs since the last mark."""
        _check_keys(self.stack[::2])
        super().load_dict()

    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.DICT[0]] = load_dict

    def _read_array(self, wrapper: Any) -> Any:
        """Return the array that follows its wrapper in the stream."""
        if not wrapper.dtype.hasobject:
            return self._arrays.read(wrapper)
        # joblib would read an array of objects without most of these checks.
        inner = _Unpickler(self._arrays, self._trusted_modules)
        array = inner.load()
        self.n_objects += inner.n_objects
        return array


def _check_keys(keys: Iterable[Any]) -> None:
    for key in keys:
        if not is_plain(key):
            raise untrusted(f"{describe(key)} as a key")


def _targets(args: Iterable[Any]) -> list[Any]:
    """Return arguments for trusted code, with the classes instead of their tokens."""
    return [each.target if isinstance(each, Token) else each for each in args]
