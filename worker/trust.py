"""What an artifact may be made of: the classes and functions that fitted estimators need, and what is named beside."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

_PLAIN = {
    "builtins": "object int float complex bool str bytes bytearray list tuple dict set frozenset slice range",
    "collections": "OrderedDict defaultdict deque Counter",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "functools": "partial",
    "joblib.numpy_pickle": "NumpyArrayWrapper",
    "types": "SimpleNamespace",
}
PLAIN_CLASSES = frozenset(f"{module}.{name}" for module, names in _PLAIN.items() for name in names.split())

_CALLED = {
    "_codecs": "encode",
    "copyreg": "_reconstructor",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy._core.numeric": "_frombuffer",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy.ma.core": "_mareconstruct",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "pandas._libs.internals": "_unpickle_block",
    "pandas.core.indexes.base": "_new_Index",
    "re": "_compile",
}
RECONSTRUCTORS = frozenset(f"{module}.{name}" for module, names in _CALLED.items() for name in names.split())
"""Functions that a pickle may call while it is read."""

_PURE = {
    "numpy": "around clip cumsum diff mean median nan_to_num ravel reshape round sort sum",
    "pandas._libs.missing": "NA",
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "sklearn.preprocessing._function_transformer": "_identity",
}
PURE_OBJECTS = frozenset(f"{module}.{name}" for module, names in _PURE.items() for name in names.split())
"""What an estimator may hold from modules where not everything is harmless."""

TOP_MODULES = frozenset(["numpy", "pandas"])
"""Modules that may be imported from, without their submodules."""

PACKAGES = (
    *("numpy._core", "numpy.core", "numpy.dtypes", "numpy.ma", "numpy.matrixlib", "numpy.random"),
    *("scipy.interpolate", "scipy.optimize", "scipy.sparse", "scipy.spatial", "scipy.special"),
    *("pandas._libs", "pandas.arrays", "pandas.core"),
    "sklearn",
)
"""Modules that may be imported from, and their submodules.

Not scipy.stats: its distributions execute a text that comes out of the pickle.
"""

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
class Trust:
    """What artifacts may hold beyond the usual."""

    modules: frozenset[str] = frozenset()
    """Packages or modules that pickles may use, all of them."""
    skops_types: frozenset[str] = frozenset()
    """Types that skops artifacts may hold, by qualified name."""


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
