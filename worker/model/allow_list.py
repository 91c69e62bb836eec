"""What an artifact may be made of: the classes and functions that fitted estimators need, and what is named beside."""

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

CYTHON = ("numpy.random", "pandas._libs", "scipy", "sklearn")
"""Packages with classes that Cython pickles by functions of its own."""

TRUE_NAMES = {"_loss": "sklearn._loss._loss"}
"""Modules that Cython made call themselves by their last name: scikit-learn 1.7 pickles so."""

FILE_CLASSES = frozenset(["numpy.memmap", "pandas.ExcelFile", "pandas.ExcelWriter", "pandas.HDFStore"])


@dataclass(frozen=True)
class AllowList:
    """What artifacts may hold beyond the usual."""

    modules: frozenset[str] = frozenset()
    """Packages or modules that pickles may use, all of them."""
    skops_types: frozenset[str] = frozenset()
    """Types that skops artifacts may hold, by qualified name."""
    signers: "PublicKeys | None" = None
    """Keys of which one must have signed a version; None: nobody need have."""


def within(module: str, packages: Collection[str]) -> bool:
    """Whether a module is one of these or inside one."""
    return any(module == each or module.startswith(f"{each}.") for each in packages)


def may_import(module: str, name: str) -> bool:
    """Whether a module may be imported to look at something in it."""
    if f"{module}.{name}" in PLAIN_CLASSES | RECONSTRUCTORS | PURE_OBJECTS or module in TOP_MODULES:
        return True
    in_tests = "tests" in module.split(".")
    return within(module, PACKAGES) and not within(module, RUN_CODE_OR_OPEN_FILES) and not in_tests


def may_be_called(module: str, name: str) -> bool:
    """Whether a pickle may call a function while it is read; classes it may always."""
    # What Cython writes for its classes; `newObj` are the trees of the nearest neighbours.
    by_cython = name.startswith("__pyx_unpickle_") or name == "newObj"
    return f"{module}.{name}" in RECONSTRUCTORS or (by_cython and within(module, CYTHON))


def may_be_held(found: Any, module: str, name: str) -> bool:
    """Whether an estimator may hold what was found under a name in a module that may be imported."""
    path, package = f"{module}.{name}", module.split(".")[0]
    if path in PLAIN_CLASSES | PURE_OBJECTS or isinstance(found, np.ufunc):
        return True
    # Modules also hold what they import themselves.
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
