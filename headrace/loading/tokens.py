"""Values that need no check of their own: plain ones, and tokens.

Tokens are inert stand-ins for the classes and functions that a pickle may use to build objects, and only for that.
"""

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.errors import ArtifactInvalid

LIBRARIES = frozenset(["joblib", "numpy", "pandas", "scipy", "sklearn", "skops"])
"""Packages that every worker has, and of which a pickle may use only what fitted estimators need."""

SCALARS = frozenset([bool, bytes, complex, float, int, str, type(None)])
"""Types of values that hold no other value."""


@dataclass(frozen=True, eq=False)
class Token:
    """A class or function that a pickle may call, or make objects of, but that no estimator may hold.

    It is no callable. So a pickle that puts it anywhere else, such as into the attribute `func` of a transformer, gets
    an object that does nothing.
    """

    path: str
    """The module and the name."""
    target: Any


def is_plain(value: Any) -> bool:
    """Return True if a value is a key that needs no code of its own to be hashed: a scalar, or a tuple of them."""
    if type(value) is tuple:
        return all(type(each) in SCALARS or isinstance(each, np.generic) for each in value)
    return type(value) in SCALARS or isinstance(value, np.generic)


def untrusted(needed: str) -> ArtifactInvalid:
    """Return the error that a pickle needs a certain name, or something else that no fitted estimator needs."""
    # To trust all of the standard library or of NumPy is no remedy.
    remedy = "" if is_library(needed) or " " in needed else " (TRUSTED_MODULES names modules that are)"
    return ArtifactInvalid(f"it needs {needed}, which is not trusted{remedy}")


def is_library(name: str) -> bool:
    """Return True if a dotted name belongs to Python or to a package that every worker has."""
    return name.partition(".")[0] in LIBRARIES | sys.stdlib_module_names


def describe(value: Any) -> str:
    """Return the name of a function, class or token, or that of an object's type."""
    if isinstance(value, Token):
        return value.path
    # Other objects are not asked: a pickle may have made them without what they need to answer.
    named = value if isinstance(value, type) or inspect.isroutine(value) else type(value)
    return str(named.__qualname__)
