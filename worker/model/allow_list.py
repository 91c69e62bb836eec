"""Rules for the contents of an artifact: the classes and functions that fitted estimators need, and more by name."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.models.pickle_allow_list import PACKAGES, PLAIN_CLASSES, PURE_OBJECTS, RECONSTRUCTORS

if TYPE_CHECKING:
    from headrace.models.signing import PublicKeys

TOP_MODULES = frozenset(["numpy", "pandas"])
"""Modules that may be imported from, without their submodules."""

RUN_CODE_OR_OPEN_FILES = (
    *("sklearn.conftest", "sklearn.datasets", "sklearn.externals", "sklearn.utils._mocking", "sklearn.utils._testing"),
    *("sklearn.utils._show_versions", "sklearn.utils._test_common", "sklearn.utils.estimator_checks"),
    *("numpy._core.memmap", "numpy.core.memmap", "pandas.core.computation"),
)
"""Parts of the allowed packages that stay forbidden."""

CYTHON = ("numpy.random", "pandas._libs", "scipy", "sklearn")
"""Packages whose Cython classes are unpickled by functions that Cython generates."""

TRUE_NAMES = {"_loss": "sklearn._loss._loss"}
"""Full names of Cython modules that call themselves by the last part only, as the pickles of scikit-learn 1.7 do."""

FILE_CLASSES = frozenset(["numpy.memmap", "pandas.ExcelFile", "pandas.ExcelWriter", "pandas.HDFStore"])
"""Classes that open a file when they are called."""


@dataclass(frozen=True)
class AllowList:
    """The modules, types and signers that a worker trusts beside the built-in rules."""

    modules: frozenset[str] = frozenset()
    """Packages or modules of which pickles may use everything."""
    skops_types: frozenset[str] = frozenset()
    """Types that skops artifacts may hold, by qualified name."""
    signers: "PublicKeys | None" = None
    """Keys one of which must have signed a version; None if versions need no signature."""


def within(module: str, packages: Collection[str]) -> bool:
    """Return True if a module is one of these packages or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def may_import(module: str, name: str) -> bool:
    """Return True if a pickle may make the worker import a module to look up a name in it."""
    if f"{module}.{name}" in PLAIN_CLASSES | RECONSTRUCTORS | PURE_OBJECTS or module in TOP_MODULES:
        return True
    in_tests = "tests" in module.split(".")
    return within(module, PACKAGES) and not within(module, RUN_CODE_OR_OPEN_FILES) and not in_tests


def may_be_called(module: str, name: str) -> bool:
    """Return True if a pickle may call a function while it is read; it may call every class that it may hold."""
    # Cython generates these functions for its classes; `newObj` is the one of the trees of the nearest neighbours.
    by_cython = name.startswith("__pyx_unpickle_") or name == "newObj"
    return f"{module}.{name}" in RECONSTRUCTORS or (by_cython and within(module, CYTHON))


def may_be_held(found: Any, module: str, name: str) -> bool:
    """Return True if an estimator may hold an object.

    Args:
        found: The object.
        module: The module in which the pickle looked it up, one that may be imported.
        name: Its name in that module.
    """
    path, package = f"{module}.{name}", module.split(".")[0]
    if path in PLAIN_CLASSES | PURE_OBJECTS or isinstance(found, np.ufunc):
        return True
    # A module also holds objects that it has imported from elsewhere: the home of the object must be allowed too.
    home = getattr(found, "__module__", None) or ""
    home = TRUE_NAMES.get(home, home)
    if not within(home, (package,)) or within(home, RUN_CODE_OR_OPEN_FILES):
        return False
    if isinstance(found, type):
        if issubclass(found, np.memmap) or path in FILE_CLASSES:
            return False
        return package != "numpy" or issubclass(found, np.generic | np.ndarray | np.dtype) or home.startswith("numpy.r")
    is_public = callable(found) and not name.startswith("_")
    return is_public and (package == "sklearn" or home == "scipy.spatial.distance")
