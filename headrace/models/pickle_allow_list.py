"""Names that a pickled artifact may refer to: the export and the workers refuse others."""

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
"""Classes that a pickle may hold, wherever the estimator comes from."""

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
"""Functions that a pickle may call while it is loaded."""

_PURE = {
    "numpy": "around clip cumsum diff mean median nan_to_num ravel reshape round sort sum",
    "pandas._libs.missing": "NA",
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "sklearn.preprocessing._function_transformer": "_identity",
}
PURE_OBJECTS = frozenset(f"{module}.{name}" for module, names in _PURE.items() for name in names.split())
"""Objects that an estimator may hold, from modules in which other objects do harm."""

PACKAGES = (
    *("numpy._core", "numpy.core", "numpy.dtypes", "numpy.ma", "numpy.matrixlib", "numpy.random"),
    *("scipy.interpolate", "scipy.optimize", "scipy.sparse", "scipy.spatial", "scipy.special"),
    *("pandas._libs", "pandas.arrays", "pandas.core"),
    "sklearn",
)
"""Modules from which a pickle may import, with their submodules.

scipy.stats is not among them: its distributions execute a text from the pickle.
"""
