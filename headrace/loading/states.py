"""States of the objects in an artifact: what an object's attributes may be."""

import functools
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from pandas.api.extensions import ExtensionDtype
from sklearn.base import BaseEstimator
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process.kernels import Kernel
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import BallTree, KDTree
from sklearn.tree._tree import Tree

from headrace.errors import ArtifactInvalid
from headrace.loading.fitted.answers import check_answers_of
from headrace.loading.fitted.places import check_places
from headrace.loading.fitted.plain_values import check_plain_values
from headrace.loading.fitted.read_only import freeze_arrays
from headrace.loading.fitted.texts import TEXTS
from headrace.loading.links import check_linked_parts, check_links
from headrace.loading.names import ARGUMENT_NAMES, CORES, OPTIONS, PART_NAMES, TEXT_OPTIONS, is_special
from headrace.loading.parts import leaves, parts
from headrace.loading.tokens import SCALARS, is_library, is_plain, untrusted

FIXED = {"memory": None, "input": "content"}
"""Attribute -> the only value that it may have.

`memory` names a folder from which joblib reads pickles, and with another `input` the texts of rows are names of files.
"""

METHODS = frozenset(["auto", "decision_function", "drop", "predict", "predict_log_proba", "predict_proba", None])
METHOD_NAMES = frozenset(["chain_method", "chain_method_", "response_method", "stack_method", "stack_method_"])
"""Attributes that name the methods that an estimator calls on its parts.

With another name than one of METHODS, an array that takes the place of a part would write a file (`tofile`).
"""

ONE_ARGUMENT_NAMES = frozenset(["func", "inverse_func", "weights"])
"""Attributes with functions that an estimator calls with one array; it calls others with two."""

KINDS: dict[str, tuple[type, ...]] = {
    "_tree": (KDTree, BallTree, type(None)),
    "kernel_": (Kernel,),
    "tree_": (KDTree, BallTree, Tree),
}
"""Attributes that an estimator asks and that are no estimators -> their classes."""

FROZEN = frozenset(["_metadata_request", "estimator", "n_jobs"])
"""Attributes of a FrozenEstimator, which has all others from its estimator; others of its own would hide these."""

_ASKED = ("fit", "predict", "predict_proba")
"""Methods of which estimators of other classes than scikit-learn's have one, and data have none."""


def set_state(target: Any, state: Any) -> None:
    """Set the state of an object that a pickle has just made.

    Raises:
        ArtifactInvalid: if the state is more than plain attributes, or has links that lead out of an array.
    """
    kind = type(target)
    if isinstance(target, ExtensionDtype):
        # The state of a dtype of pandas is a cache, which is not read.
        return
    if isinstance(target, functools.partial):
        _check_partial(target, state)
        function, args, kwargs, attributes = state
        state = function, args, _copied(kwargs, kwargs), attributes
    elif type(state) is dict:
        check_attributes(kind, state)
        state = _copied(state, METHOD_NAMES)
    elif type(state) is tuple:
        # Some classes take their attributes in a tuple, beside other parts.
        for each in state:
            if type(each) is dict:
                check_attributes(kind, each)
            elif hasattr(each, "keys"):
                raise untrusted(f"a {type(each).__qualname__} as the state of {kind.__qualname__}")
            else:
                _check_mask(kind, each)
                check_function(each, 2)
    else:
        # Anything else with keys, such as an OrderedDict, would set attributes too.
        raise untrusted(f"a {type(state).__qualname__} as the state of {kind.__qualname__}")
    check_links(target, state)
    state = _unshared(target, state)
    # The method of the class, because the state may have set one of the same name.
    set_own = getattr(kind, "__setstate__", None)
    if set_own is not None:
        set_own(target, state)
    elif type(state) is dict:
        target.__dict__.update(state)
    else:
        raise untrusted(f"another state of {kind.__qualname__} than its attributes")


def _unshared(target: Any, state: Any) -> Any:
    """Return the state of an object with memory of its own for what was checked.

    A pickle may let two objects share an array, of which one is changed while it predicts: NumPy's functions write into
    the array that they get as `out`. Read-only arrays are mapped from the file, and nothing changes them.
    """
    if isinstance(target, np.ndarray):
        # NumPy shares long bytes with the array that it makes of them.
        return tuple(bytes(memoryview(each)) if type(each) is bytes else each for each in state)
    if isinstance(target, DistanceMetric):
        return tuple({**each} if type(each) is dict else each for each in state)
    if isinstance(target, TreePredictor):
        return {name: _own(each) for name, each in state.items()}
    if isinstance(target, KDTree | BallTree):
        # The rows are no links.
        rows, *others = state
        return rows, *map(_own, others)
    return state


def _own(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) and value.flags.writeable else value


def check_attributes(kind: type, state: Mapping[Any, Any]) -> None:
    """Check the attributes of an object of a class.

    An attribute is no special method (`__array__`, by which NumPy would ask the object), and takes the place of no
    method, property or constant of the class. It is no masked array either: native code reads what a mask hides.

    The attributes of FIXED and METHOD_NAMES have only the values that are listed there, those of TEXTS lead to no other
    attributes than they should, and a dictionary of arguments has no array that a function would write into.

    Raises:
        ArtifactInvalid: if there is another one.
    """
    for name, value in state.items():
        if not _may_be_set(kind, name):
            raise untrusted(f"an attribute {name!r} of {kind.__qualname__}")
        _check_mask(kind, value)
        if name in FIXED and (type(value), value) != (type(FIXED[name]), FIXED[name]):
            raise ArtifactInvalid(f"{kind.__qualname__} has another {name} than {FIXED[name]!r}")
        output = value.get("out") if isinstance(value, dict) else None
        if not is_plain(output) or (name == "out" and not is_plain(value)):
            # NumPy's functions would write into it, also if it is a part that was checked.
            raise untrusted(f"an output for a function of {kind.__qualname__}")
        is_options = isinstance(value, dict) and name not in ("inv_kw_args", "kw_args")
        for function in value.values() if is_options else [value]:
            check_function(function, 1 if name in ONE_ARGUMENT_NAMES else 2)
        if name in ARGUMENT_NAMES and value is not None:
            if type(value) is not dict:
                raise untrusted(f"a {type(value).__qualname__} in the place of arguments of {kind.__qualname__}")
            _check_arguments(state.get(ARGUMENT_NAMES[name]), value)
        if name in TEXTS and isinstance(value, str):
            TEXTS[name](value)
        if name in METHOD_NAMES and not all(map(_is_method, value if isinstance(value, list | tuple) else [value])):
            raise ArtifactInvalid(f"{kind.__qualname__} has a {name} that is no method of estimators")


def _check_mask(kind: type, value: Any) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise untrusted(f"a masked array as an attribute of {kind.__qualname__}")


def check_function(value: Any, n_arguments: int) -> None:
    """Check that a function, if the value is one of NumPy's, takes so many arrays: it would write into one more.

    Raises:
        ArtifactInvalid: if it takes fewer, or is a partial with arguments that it might write into.
    """
    if isinstance(value, functools.partial):
        if value.args or not all(map(_is_option, value.keywords.values())):
            raise untrusted("a partial with other than plain keyword arguments")
        value = value.func
    if isinstance(value, np.ufunc) and value.nin < n_arguments:
        raise untrusted(f"the function {value.__name__} in the place of one of {n_arguments} arrays")


def _check_arguments(function: Any, arguments: dict[str, Any]) -> None:
    """Check the keyword arguments of a function.

    A function of a library that returns what it is given, as `np.sum(initial=…, where=False)` does, would make any
    object of an artifact the rows of the next estimator.

    Args:
        function: The function, or its name in scikit-learn; None if it is the identity, which takes no arguments.
        arguments: Its arguments by name.

    Raises:
        ArtifactInvalid: if one starts processes or threads, or if a function of a library gets one that it needs not.
    """
    while isinstance(function, functools.partial):
        function = function.func
    home = getattr(function, "__module__", None) or type(function).__module__
    is_foreign = function is None or not (isinstance(function, np.ufunc | str) or is_library(str(home)))
    for name, value in arguments.items():
        if name in CORES:
            if type(value) not in (int, type(None)) or value not in (None, 1):
                raise untrusted(f"an argument {name!r} that starts processes")
        elif not (is_foreign or _is_known_option(name, value)):
            raise untrusted(f"an argument {name!r} of other than known names and values")


def _is_known_option(name: str, value: Any) -> bool:
    """Return True for a keyword argument of a library's function that is on the lists."""
    if name == "func":
        return callable(value)
    texts: tuple[type, ...] = (str, type, np.dtype) if name in TEXT_OPTIONS else ()
    if isinstance(value, np.ndarray | np.random.RandomState):
        return name in OPTIONS and getattr(value, "dtype", np.dtype(int)).kind in "biufc"
    return name in OPTIONS | TEXT_OPTIONS and all(
        isinstance(each, (np.number, np.bool_, *texts)) or type(each) in SCALARS - {bytes, str}
        for each in (value if type(value) in (list, tuple) else [value])
    )


def check_estimator(estimator: Any) -> None:
    """Check the attributes of an estimator that was read already, and of all estimators of scikit-learn in it.

    Nothing can change its arrays afterwards.

    Raises:
        ArtifactInvalid: as `check_attributes` and `check_places` do.
    """
    check_places(estimator)
    own = [part for part in parts(estimator) if type(part).__module__.startswith("sklearn.")]
    for part in own:
        check_attributes(type(part), vars(part))
        _check_asked(part)
        check_plain_values(part)
        check_linked_parts(part)
    for part in own:
        check_answers_of(part)
    freeze_arrays(estimator)


def _check_asked(part: Any) -> None:
    """Check that what an estimator asks for predictions are estimators.

    Raises:
        ArtifactInvalid: if another object, such as an array, is in the place of one.
    """
    fitted, kind = vars(part), type(part).__qualname__
    asked = {name: fitted[name] for name in PART_NAMES & fitted.keys()}
    # Names, transformers and columns; features, their neighbours and imputers.
    asked["transformers_"] = [each for _, each, _ in fitted.get("transformers_", [])]
    asked["imputation_sequence_"] = [each for _, _, each in fitted.get("imputation_sequence_", [])]
    for name, value in asked.items():
        for each in leaves(value):
            if not _may_be_asked(each):
                raise ArtifactInvalid(f"{kind} has a {type(each).__qualname__} in {name}, where an estimator has to be")
    for name in KINDS.keys() & fitted.keys():
        if not isinstance(fitted[name], KINDS[name]):
            raise ArtifactInvalid(f"{kind} has a {type(fitted[name]).__qualname__} in {name}")
    if isinstance(part, FrozenEstimator):
        held = fitted.get("estimator")
        if not (fitted.keys() <= FROZEN and _may_be_asked(held)) or isinstance(held, str | None):
            raise ArtifactInvalid(f"{kind} has other attributes than an estimator, where an estimator has to be")


def _may_be_asked(value: Any) -> bool:
    # A pipeline has texts and None in the place of steps that do nothing.
    return isinstance(value, str | BaseEstimator | None) or any(hasattr(type(value), method) for method in _ASKED)


@functools.lru_cache(maxsize=10_000)
def _may_be_set(kind: type, name: Any) -> bool:
    if is_special(name):
        return False
    found = inspect.getattr_static(kind, name, None)
    if found is None or isinstance(found, functools.cached_property):
        return True
    if hasattr(found, "__get__"):
        # Cython's classes take the values of their own descriptors in a state.
        return hasattr(found, "__set__") and not isinstance(found, property)
    # A few classes have a constant of the name of a parameter, which their base class sets.
    return name in inspect.signature(kind).parameters


def _is_method(value: Any) -> bool:
    # The hash of a tuple that holds another twice, which does so in turn, would never be computed.
    return type(value) in (str, type(None)) and value in METHODS


def _copied(state: dict[Any, Any], names: Collection[Any]) -> dict[Any, Any]:
    """Return a state with lists of its own under these names: a pickle may add to one that it made before."""
    return {name: list(each) if name in names and type(each) is list else each for name, each in state.items()}


def _check_partial(target: "functools.partial[Any]", state: Any) -> None:
    function, args, kwargs, attributes = state
    if function is not target.func or args or attributes or not all(map(_is_option, kwargs.values())):
        raise untrusted("a partial with other than plain keyword arguments")
    _check_arguments(function, kwargs)


def _is_option(value: Any) -> bool:
    """Return True for a keyword argument that no function writes into."""
    return all(is_plain(each) or isinstance(each, type) for each in (value if type(value) is list else [value]))
