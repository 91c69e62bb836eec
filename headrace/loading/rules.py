"""Rules for the names in a pickle: the object that a name stands for, and what the pickle may do with it."""

import inspect
from collections.abc import Collection
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from headrace.errors import ArtifactInvalid
from headrace.loading.calls import CALLS
from headrace.loading.names import ARGUMENTS, FORBIDDEN_ESTIMATORS, INSTANCES, NAMED_TUPLES, TRUE_MODULES, VALUES
from headrace.loading.tokens import Token, untrusted

UFUNC_MODULES = ("numpy", "scipy.special")
"""Modules whose ufuncs an estimator may hold."""


def within(module: str, packages: Collection[str]) -> bool:
    """Return True if a module is one of these packages or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def find(module: str, name: str) -> Any:
    """Return the object that a name stands for: itself if an estimator may hold it, otherwise a token.

    A module is imported only if the name is on a list, or is that of an estimator or a ufunc.

    Raises:
        ArtifactInvalid: if the name is not trusted.
    """
    module = TRUE_MODULES.get(module, module)
    path = f"{module}.{name}"
    # A dotted name leads through any attribute: through the imports of a module, and so to `os.system`.
    if "." in name:
        raise untrusted(path)
    if path in VALUES:
        return getattr(import_module(module), name)
    if path in INSTANCES or path in ARGUMENTS or path in CALLS or path in NAMED_TUPLES:
        return Token(path, getattr(import_module(module), name))
    found = _ufunc_or_scalar(module, name)
    if found is not None:
        return found
    estimator = _estimator(module, name)
    if estimator is None:
        raise untrusted(path)
    return Token(path, estimator)


def is_known(module: str, name: str, trusted_modules: Collection[str] = ()) -> bool:
    """Return True if a worker that trusts these modules takes a name."""
    if within(module, trusted_modules):
        return "." not in name
    try:
        find(module, name)
    except (ArtifactInvalid, ImportError, AttributeError):
        return False
    return True


def find_trusted(module: str, name: str, trusted_modules: Collection[str]) -> Any:
    """Return the object of a name in a module that the operator trusts.

    Raises:
        ArtifactInvalid: if the object is from elsewhere: a module holds its imports too, such as `subprocess.run`.
    """
    if "." in name:
        raise untrusted(f"{module}.{name}")
    found = getattr(import_module(module), name)
    home = getattr(found, "__module__", None) or type(found).__module__
    if inspect.ismodule(found) or not (within(home, trusted_modules) or isinstance(found, np.ufunc)):
        raise untrusted(f"{module}.{name}")
    return found


def can_be_made(token: Token) -> bool:
    """Return True if a pickle may make an object of a class from a plain state."""
    return token.path in INSTANCES or (isinstance(token.target, type) and issubclass(token.target, BaseEstimator))


def _ufunc_or_scalar(module: str, name: str) -> Any:
    """Return a ufunc or a type of NumPy's scalars; None if the name is neither."""
    # Pickles name the module in which a ufunc was found first, which may be a private one below these.
    home = next((each for each in UFUNC_MODULES if within(module, (each,))), None)
    found = getattr(import_module(home), name, None) if home else None
    is_scalar = isinstance(found, type) and issubclass(found, np.generic)
    return found if is_scalar or isinstance(found, np.ufunc) else None


def _estimator(module: str, name: str) -> Any:
    """Return a class of scikit-learn's estimators; None if the name is not one."""
    in_tests = "tests" in module.split(".")
    if not within(module, ("sklearn",)) or within(module, FORBIDDEN_ESTIMATORS) or in_tests:
        return None
    found = getattr(import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        return None
    # A module holds its imports too.
    home = found.__module__
    return found if within(home, ("sklearn",)) and not within(home, FORBIDDEN_ESTIMATORS) else None
