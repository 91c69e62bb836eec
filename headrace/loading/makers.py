"""Objects of pandas and SciPy, which are made anew by the public constructors.

These libraries trust the states of their objects: a frame takes any object for its blocks, a categorical any number
for the position of a category, and a sparse matrix any number for that of a value. So a pickle gets stand-ins, which
hold parts and have no methods. When a state arrives, the object is made of the parts. Positions and values of pandas
are copied, so that no array which is changed later is among them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from pandas.api.extensions import ExtensionArray
from scipy.interpolate import BSpline

from headrace.errors import ArtifactInvalid
from headrace.loading.names import is_special
from headrace.loading.tokens import is_plain, untrusted

FRAME_STATE = frozenset(["_flags", "_metadata", "_mgr", "_name", "_typ", "attrs"])
"""Attributes in the state of a data frame or series."""

_SPARSE_STATE = frozenset(
    [
        *("_has_canonical_format", "_has_sorted_indices", "_shape", "coords", "data", "has_canonical_format"),
        *("indices", "indptr", "maxprint", "offsets"),
    ]
)
_SPLINE_STATE = frozenset(["_asarray", "_c", "_t", "axis", "c", "extrapolate", "k", "t"])
_MASKED_STATE = frozenset(["_cache", "_data", "_dtype", "_mask", "_readonly"])


@dataclass(frozen=True, eq=False)
class StandIn:
    """An inert object in the place of another one, until its state arrives."""

    make: Callable[[Any], Any]
    """Makes the object of its state."""


@dataclass(frozen=True, eq=False)
class Block:
    """Columns of one type, in the rows of an array, and their places in the frame."""

    values: Any
    places: Any
    n_dimensions: Any


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a frame or series, and its axes: columns and rows, or rows."""

    blocks: Any
    axes: Any


def index(kind: Any, parts: dict[str, Any]) -> pd.Index:
    """Make an index of plain labels.

    Args:
        kind: The class.
        parts: Arguments by name.

    Raises:
        ArtifactInvalid: if a label is no plain value.
    """
    if "data" not in parts:
        return kind(**parts)
    data = _own(parts["data"])
    return kind(**{"dtype": data.dtype, **parts, "data": data})


def _frame(state: Any) -> pd.DataFrame:
    parts = _parts(state, "dataframe")
    labels, rows = parts.axes
    columns: dict[int, pd.Series] = {}
    for block in parts.blocks:
        values = block.values if getattr(block.values, "ndim", 1) == 2 else [block.values]
        places = range(len(labels))[block.places] if isinstance(block.places, slice) else block.places.tolist()
        columns.update((place, _column(each, rows)) for place, each in zip(places, values, strict=True))
    if len(columns) != len(labels) or not columns.keys() <= set(range(len(columns))):
        raise untrusted("a DataFrame whose blocks are not its columns")
    frame = pd.DataFrame({place: columns[place] for place in range(len(columns))}, index=rows)
    frame.columns = labels
    frame.attrs = state.get("attrs", {})
    return frame


def _series(state: Any) -> pd.Series:
    parts = _parts(state, "series")
    (block,), (rows,) = parts.blocks, parts.axes
    series = _column(block.values, rows)
    series.name = state.get("_name")
    series.attrs = state.get("attrs", {})
    return series


def _parts(state: Any, typ: str) -> Blocks:
    """Return the blocks and axes in the state of a frame or series.

    pandas hands out the values as attributes by their labels. With a label `__array_interface__` NumPy would take any
    memory that the value describes for an array, and with `predict` an object for an estimator.

    Raises:
        ArtifactInvalid: if the state has something else, or a label is the name of a special attribute.
    """
    if not (
        type(state) is dict
        and set(state) <= FRAME_STATE
        and state.get("_typ") == typ
        and {*state.get("_metadata", ())} <= {"_name", "name"}
        and is_plain(state.get("_name"))
        and all(is_plain(each) for pair in state.get("attrs", {}).items() for each in pair)
        and type(state.get("_mgr")) is Blocks
    ):
        raise untrusted(f"a {typ} with attributes of its own")
    parts: Blocks = state["_mgr"]
    if not all(type(block) is Block for block in parts.blocks) or not all(map(_is_index, parts.axes)):
        raise untrusted(f"a {typ} of other parts than pandas writes")
    labels = [axis for axis in parts.axes if not isinstance(axis, pd.RangeIndex)]
    if any(isinstance(label, str) and is_special(label) for axis in labels for label in axis):
        raise untrusted(f"a special attribute of a {typ}")
    return parts


def _is_index(value: Any) -> bool:
    # Every index that a pickle can hold was made by `index`.
    return isinstance(value, pd.Index)


def _column(values: Any, rows: pd.Index) -> pd.Series:
    values = _own(values)
    return pd.Series(values, index=rows, dtype=values.dtype)


def _own(values: Any) -> Any:
    """Return a copy of an array of plain values.

    Raises:
        ArtifactInvalid: if another value is among them.
    """
    if isinstance(values, ExtensionArray):
        return values.copy()
    if not isinstance(values, np.ndarray):
        raise untrusted(f"a {type(values).__name__} as values of pandas")
    if values.dtype.hasobject and not (values.dtype == object and all(map(is_plain, values.flat))):
        raise untrusted("an object of pandas of other than plain values")
    return np.array(values)


def _series_block(state: Any) -> Blocks:
    parts = state[3]["0.14.1"]
    return Blocks([Block(each["values"], each["mgr_locs"], 1) for each in parts["blocks"]], parts["axes"])


def _categorical(state: Any) -> pd.Categorical:
    dtype, codes, *more = state
    if type(dtype) is not pd.CategoricalDtype or any(more):
        raise untrusted("a Categorical of other parts than pandas writes")
    return pd.Categorical.from_codes(_own(codes), dtype=dtype)


def _categories(state: Any) -> pd.CategoricalDtype:
    if not (set(state) == {"categories", "ordered"} and isinstance(state["categories"], pd.Index | None)):
        raise untrusted("a CategoricalDtype of other parts than pandas writes")
    return pd.CategoricalDtype(state["categories"], bool(state["ordered"]))


def _masked(kind: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """Return the maker of an array with a mask of missing values."""

    def make(state: Any) -> Any:
        if not set(state) <= _MASKED_STATE:
            raise untrusted("a masked array of pandas with attributes of its own")
        return kind(_own(state["_data"]), _own(state["_mask"]))

    return make


def _texts(state: Any) -> Any:
    dtype = state["_dtype"]
    values = state["_pa_array"]
    is_arrow = type(values).__module__.startswith("pyarrow.")
    if not (set(state) <= {"_cache", "_dtype", "_pa_array"} and type(dtype) is pd.StringDtype and is_arrow):
        raise untrusted("an ArrowStringArray with attributes of its own")
    return pd.array(values, dtype=dtype)


def _sparse(kind: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return the maker of a sparse matrix whose positions are inside of its shape."""

    def make(state: Any) -> Any:
        positions = [state[name] for name in ("indices", "indptr", "offsets") if name in state]
        coords = [*state["coords"]] if "coords" in state else []
        parts = [np.asarray(each) for each in (state["data"], *positions, *coords)]
        if not set(state) <= _SPARSE_STATE or any(part.dtype.hasobject for part in parts):
            raise untrusted("a sparse matrix of other parts than SciPy writes")
        data, *owned = parts[0], *(each.copy() if each.flags.writeable else each for each in parts[1:])
        matrix = kind((data, tuple(owned)) if coords else (data, *owned), shape=state["_shape"])
        check_sparse(matrix)
        return matrix

    return make


def check_sparse(matrix: Any) -> None:
    """Check that the positions of a sparse matrix are inside of its shape.

    The constructors of SciPy look at the first and last pointer only, and its full check at no position at all if the
    last pointer is 0. They look at no place of a diagonal, which native code adds to the numbers of rows and columns.
    Blocks may leave a rest of the rows, for which native code sets no pointers. The constructors check all else.

    Raises:
        ArtifactInvalid: if a pointer is less than the one before, a diagonal is outside, or blocks leave a rest.
        ValueError: if SciPy finds another mistake.
    """
    if hasattr(matrix, "offsets"):
        n_rows, n_columns = matrix.shape
        # `tolist` makes Python's numbers of them, which do not overflow.
        if not all(-n_rows < offset < n_columns for offset in matrix.offsets.tolist()):
            raise ArtifactInvalid("a sparse matrix has diagonals outside of it")
    if hasattr(matrix, "blocksize") and any(np.mod(matrix.shape, matrix.blocksize)):
        raise ArtifactInvalid("a sparse matrix is of other than whole blocks")
    if hasattr(matrix, "indptr"):
        if (matrix.indptr[1:] < matrix.indptr[:-1]).any():
            raise ArtifactInvalid("a sparse matrix has pointers that do not ascend")
        matrix.check_format(full_check=True)


def remake_splines(part: Any) -> None:
    """Make the splines of an estimator anew: skops sets their knots, weights and degree without a check.

    Raises:
        ArtifactInvalid: if there is something else among them.
        ValueError: if knots, weights and degree do not fit.
    """
    for each in vars(part).get("bsplines_", []):
        if type(each) is not BSpline:
            raise untrusted(f"a {type(each).__qualname__} in the place of a spline")
        made = vars(_spline(vars(each)))
        vars(each).clear()
        vars(each).update(made)


def _spline(state: Any) -> BSpline:
    if not set(state) <= _SPLINE_STATE or state["axis"] != 0:
        raise untrusted("a BSpline of other parts than SciPy writes")
    knots, weights = (np.array(state[f"_{name}" if f"_{name}" in state else name], float) for name in "tc")
    return BSpline(knots, weights, state["k"], extrapolate=state["extrapolate"])


MAKERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("pandas.DataFrame", "pandas.core.frame.DataFrame"), _frame),
    **dict.fromkeys(("pandas.Series", "pandas.core.series.Series"), _series),
    **dict.fromkeys(("pandas.CategoricalDtype", "pandas.core.dtypes.dtypes.CategoricalDtype"), _categories),
    **dict.fromkeys(("pandas.arrays.ArrowStringArray", "pandas.core.arrays.string_arrow.ArrowStringArray"), _texts),
    "pandas.core.internals.managers.SingleBlockManager": _series_block,
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": _categorical,
    **{
        f"{module}.{name}": _masked(getattr(pd.arrays, name))
        for name, home in [("BooleanArray", "boolean"), ("FloatingArray", "floating"), ("IntegerArray", "integer")]
        for module in ("pandas.arrays", f"pandas.core.arrays.{home}")
    },
    **{
        f"scipy.sparse._{name}.{name}_{kind}": _sparse(getattr(scipy.sparse, f"{name}_{kind}"))
        for name in ("bsr", "coo", "csc", "csr", "dia")
        for kind in ("array", "matrix")
    },
    "scipy.interpolate._bsplines.BSpline": _spline,
}
"""Name of a class, or of the function that makes its objects -> the function that makes an object of a state."""
