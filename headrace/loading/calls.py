"""Calls that a pickle may make while it is read, each with a check of its arguments.

Functions that would call one of their arguments, import a module by its text, or allocate what a number says, get the
arguments that the libraries themselves write, and no others. Classes among the arguments are tokens.
"""

import datetime
import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype

from headrace.loading.makers import MAKERS, Block, Blocks, StandIn, index
from headrace.loading.names import (
    BIT_GENERATORS,
    CATEGORICALS,
    CYTHON_LOSSES,
    INDEXES,
    LOSSES,
    MASKED_ARRAYS,
    METRICS,
    TREES,
)
from headrace.loading.tokens import SCALARS, Token, describe, is_plain, untrusted

EMPTY = (0,)
"""The shape of an array whose content is set afterwards."""

_DTYPE = re.compile(r"[A-Za-z]\d{0,9}")
_BIT_GENERATOR_MAKER = "numpy.random._pickle.__bit_generator_ctor"
_CATEGORICAL_MAKER = "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked"


def call(function: Token, args: Any) -> Any:
    """Call a function or class of CALLS.

    Raises:
        ArtifactInvalid: if it is none of them, or the arguments are not those that its library writes.
    """
    check = CALLS.get(function.path)
    if check is None or type(args) is not tuple:
        raise untrusted(f"a call of {function.path}")
    try:
        fits = check(*args)
    except (TypeError, AttributeError):
        # Arguments of another number or type than the library writes.
        fits = False
    if not fits:
        raise untrusted(f"a call of {function.path} with other arguments than its library writes")
    target = _REPLACED.get(function.path, function.target)
    return target(*(each.target if isinstance(each, Token) else each for each in args))


def _scalars(*args: Any) -> bool:
    return all(type(each) in SCALARS or isinstance(each, np.generic) for each in args)


def _is(value: Any, paths: Collection[str]) -> bool:
    return isinstance(value, Token) and value.path in paths


def _members(members: Any = ()) -> bool:
    return type(members) is list and all(map(is_plain, members))


def _time(*args: Any) -> bool:
    return all(type(each) in SCALARS or isinstance(each, datetime.tzinfo | datetime.timedelta) for each in args)


def _partial(function: Any) -> bool:
    # Functions are values of VALUES, or trusted. Objects that can be called have no such attribute, and no state gives
    # them one.
    return not isinstance(function, type) and callable(function) and hasattr(function, "__qualname__")


def _reconstruct(kind: Any, shape: Any, code: Any) -> bool:
    return _is(kind, ["numpy.ndarray"]) and shape == EMPTY and code in (b"b", "b")


def _masked(kind: Any, base: Any, shape: Any, code: Any) -> bool:
    return _is(kind, MASKED_ARRAYS) and _is(base, ["numpy.ndarray"]) and shape == EMPTY and code in (b"b", "b")


def _scalar(dtype: Any, raw: Any) -> bool:
    return isinstance(dtype, np.dtype) and not dtype.hasobject and type(raw) is bytes and len(raw) == dtype.itemsize


def _buffer(buffer: Any, dtype: Any, shape: Any, order: Any, *more: Any) -> bool:
    is_array = type(buffer) in (bytes, bytearray) and isinstance(dtype, np.dtype) and not dtype.hasobject
    return is_array and _scalars(*shape, order) and all(each is None or _scalars(*each) for each in more)


def _array_of(buffer: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Any:
    """Return an array with memory of its own."""
    return np.frombuffer(bytearray(buffer), dtype).reshape(shape, order=order)


def _bit_generator(kind: Any = "MT19937") -> bool:
    return _is(kind, BIT_GENERATORS) or type(kind) is str


def _generator(bit_generator: Any, maker: Any = None) -> bool:
    # Of another argument these functions would make a bit generator, by calling the second one.
    is_made = isinstance(bit_generator, np.random.BitGenerator)
    return is_made and (maker is None or _is(maker, [_BIT_GENERATOR_MAKER]))


def _cython(*paths: str) -> Callable[..., bool]:
    """Return the check of a function that Cython generates to make an instance of one of these classes."""

    def check(kind: Any, checksum: Any, state: Any) -> bool:
        # A dictionary in the state would become attributes without a check.
        is_plain_state = state is None or (type(state) is tuple and not any(type(each) is dict for each in state))
        return _is(kind, paths) and type(checksum) is int and is_plain_state

    return check


def _categorical(kind: Any, checksum: Any, state: Any) -> bool:
    return _is(kind, CATEGORICALS) and type(checksum) is int and state is None


def _new(paths: Collection[str]) -> Callable[..., bool]:
    return lambda kind: _is(kind, paths)


def _index(kind: Any, parts: Any) -> bool:
    if not (_is(kind, INDEXES) and type(parts) is dict):
        return False
    # The text of a dtype may name a file with a time zone, which pandas would open.
    if isinstance(parts.get("dtype"), str):
        return False
    allowed = (np.ndarray, np.dtype, ExtensionArray, ExtensionDtype)
    return all(type(name) is str and (is_plain(each) or isinstance(each, allowed)) for name, each in parts.items())


def _block(values: Any, places: Any, ndim: Any) -> bool:
    is_array = isinstance(values, np.ndarray | ExtensionArray)
    return is_array and isinstance(places, slice | np.ndarray) and type(ndim) is int


def _text_dtype(*args: Any) -> bool:
    return all(type(each) in SCALARS or each is pd.NA for each in args)


def _blocks(blocks: Any, axes: Any) -> bool:
    return (
        type(blocks) is tuple and type(axes) is list and not any(isinstance(each, Token) for each in (*blocks, *axes))
    )


def _tree(n_features: Any, n_classes: Any, n_outputs: Any) -> bool:
    # The tree reads `n_outputs` numbers of the array, without a look at its length.
    return _scalars(n_features, n_outputs) and type(n_classes) is np.ndarray and n_classes.shape == (n_outputs,)


def _texts_or_bytes(value: Any, encoding: Any = "latin-1") -> bool:
    # A number would be the number of bytes to allocate.
    return type(value) in (bytes, str) and encoding == "latin-1"


def _factory(factory: Any = None) -> bool:
    return factory in (None, int, float, str, list, dict, tuple) or _is(factory, ["collections.OrderedDict"])


def _maker(path: str) -> str:
    """Return the path of the function that Cython generates to make instances of a class."""
    module, _, name = path.rpartition(".")
    return f"{module}.__pyx_unpickle_{name}"


_SEED_SEQUENCE = "numpy.random.bit_generator.SeedSequence"

CALLS: dict[str, Callable[..., bool]] = {
    "_codecs.encode": lambda text, encoding: type(text) is str and encoding == "latin1",
    "builtins.bytearray": _texts_or_bytes,
    "builtins.complex": _scalars,
    "builtins.frozenset": _members,
    "builtins.range": _scalars,
    "builtins.set": _members,
    "builtins.slice": _scalars,
    "collections.Counter": lambda counts: type(counts) is dict,
    "collections.OrderedDict": lambda: True,
    "collections.defaultdict": _factory,
    "collections.deque": lambda items=(), size=None: type(items) in (list, tuple) and _scalars(size),
    "datetime.date": _time,
    "datetime.datetime": _time,
    "datetime.time": _time,
    "datetime.timedelta": _time,
    "datetime.timezone": _time,
    "functools.partial": _partial,
    "numpy.dtype": lambda text, *_: type(text) is str and _DTYPE.fullmatch(text) is not None,
    "numpy.ma.core._mareconstruct": _masked,
    _maker(_SEED_SEQUENCE): _cython(_SEED_SEQUENCE),
    "numpy.random._pickle.__generator_ctor": _generator,
    "numpy.random._pickle.__randomstate_ctor": _generator,
    _BIT_GENERATOR_MAKER: _bit_generator,
    "pandas.StringDtype": _text_dtype,
    "pandas.core.arrays.string_.StringDtype": _text_dtype,
    _CATEGORICAL_MAKER: _categorical,
    "pandas._libs.internals._unpickle_block": _block,
    "pandas.core.indexes.base._new_Index": _index,
    "pandas.core.internals.managers.BlockManager": _blocks,
    "re._compile": lambda pattern, flags: type(pattern) in (bytes, str) and type(flags) is int,
    "sklearn.metrics._dist_metrics.newObj": _new(METRICS),
    "sklearn.neighbors._ball_tree.newObj": _new(TREES),
    "sklearn.neighbors._kd_tree.newObj": _new(TREES),
    "sklearn.tree._tree.Tree": _tree,
    **dict.fromkeys(LOSSES, _scalars),
    **{_maker(each): _cython(each) for each in CYTHON_LOSSES},
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("_core", "core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("_core", "core")},
    **{f"numpy.{core}.numeric._frombuffer": _buffer for core in ("_core", "core")},
}
"""Functions and classes that a pickle may call, and the checks of their arguments."""


_REPLACED: dict[str, Callable[..., Any]] = {
    # A copy, because the dtypes of NumPy are shared by all arrays of the process.
    "numpy.dtype": lambda text, *_: np.dtype(text, False, True),
    _CATEGORICAL_MAKER: lambda *_: StandIn(MAKERS[_CATEGORICAL_MAKER]),
    "pandas._libs.internals._unpickle_block": Block,
    "pandas.core.indexes.base._new_Index": index,
    "pandas.core.internals.managers.BlockManager": Blocks,
    **{f"numpy.{core}.numeric._frombuffer": _array_of for core in ("_core", "core")},
}
"""Functions that are called in the place of functions and classes of CALLS, which would share what they are given."""

STATEFUL = frozenset(
    [
        "functools.partial",
        "numpy.dtype",
        "numpy.ma.core._mareconstruct",
        _maker(_SEED_SEQUENCE),
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        _BIT_GENERATOR_MAKER,
        _CATEGORICAL_MAKER,
        "sklearn.metrics._dist_metrics.newObj",
        "sklearn.neighbors._ball_tree.newObj",
        "sklearn.neighbors._kd_tree.newObj",
        "sklearn.tree._tree.Tree",
        *map(_maker, CYTHON_LOSSES),
        *(f"numpy.{core}.multiarray._reconstruct" for core in ("_core", "core")),
    ]
)
"""Functions and classes of CALLS whose objects get a state afterwards; those of the others are complete."""


def made(token: Token, args: Any) -> Any:
    """Make an object of a class without calling the class.

    Args:
        token: A class of which a pickle may make objects.
        args: The values of a named tuple, otherwise nothing.

    Raises:
        ArtifactInvalid: if there are other arguments.
    """
    if token.path in MAKERS:
        return StandIn(MAKERS[token.path])
    is_tuple = isinstance(token.target, type) and issubclass(token.target, tuple)
    if type(args) is not tuple or (args and not is_tuple) or any(isinstance(each, Token) for each in args):
        raise untrusted(f"{describe(token)} with arguments")
    return token.target.__new__(token.target, *args)
