"""Objects of pandas in a pickle: none keeps a part that pandas would trust without a look at it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from headrace.errors import ArtifactInvalid
from headrace.loading.unpickler import unpickle
from tests.unit.headrace.loading.pickles import Made, Named, Reduced, objects, pickled

SERIES = pd.Series([1.5, 2.5], name="x")
FRAME = pd.DataFrame({0: [1, 2], 1: [0.5, 1.5]}).set_axis(pd.Index(["a", "b"], dtype=object), axis=1)
KINDS = pd.Categorical.from_codes([0, 1], pd.Index(["u", "v"], dtype=object))
NUMBERS = pd.array([1, None], dtype="Int64")
ONLY = pd.RangeIndex(1)
LABELS = pd.Index(["a", "b"], dtype=object)

READ: dict[str, Any] = {
    "frame": FRAME,
    "no columns": pd.DataFrame(index=[1, 2]),
    "no rows": FRAME.iloc[:0],
    "columns of many types": pd.DataFrame(
        {0: [1.5, None], 1: pd.Series(["x", None], dtype=object), 2: KINDS, 3: NUMBERS, 4: [1, 2]}, index=[5, 5]
    ),
    "a column twice": pd.DataFrame(np.arange(6.0).reshape(2, 3), columns=pd.Index(["a", "b", "a"], dtype=object)),
    "scattered blocks": pd.DataFrame({0: [1], 1: [0.5], 2: [2], 3: [3]}),
    "series": SERIES,
    "series of texts": pd.Series(["a", "b"], dtype=object, index=LABELS),
    "categorical": KINDS,
    "missing category": pd.Categorical.from_codes([0, -1], pd.Index([3, 4]), ordered=True),
    "masked": NUMBERS,
    "booleans": pd.array([True, None], dtype="boolean"),
    "index": LABELS.rename("name"),
    "range": pd.RangeIndex(1, 9, 2, name="r"),
    "dtype": pd.Int64Dtype(),
}


@pytest.mark.parametrize("name", READ)
def test_sound_objects_are_read(name: str) -> None:
    for held in (READ[name], [READ[name], READ[name]]):
        content = pickled(FunctionTransformer(kw_args={"initial": held}))

        read = unpickle(content)[0].kw_args["initial"]

        found, expected = (read, held) if held is READ[name] else (read[1], held[1])
        assert type(found) is type(expected)
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(found, expected)
        elif isinstance(expected, pd.Index):
            pd.testing.assert_index_equal(found, expected, exact=True)
        elif isinstance(expected, pd.Int64Dtype):
            assert found == expected
        else:
            pd.testing.assert_series_equal(pd.Series(found), pd.Series(expected))


def series_of(manager: Any, **state: Any) -> Any:
    """Return a series with any manager, and other changes of its state."""
    return Made(pd.Series, {**SERIES.__getstate__(), "_mgr": manager, **state})


def block(values: Any, places: Any = slice(0, 1)) -> Any:
    return Reduced(Named("pandas._libs.internals", "_unpickle_block"), values, places, 2)


def frame_of(*blocks: Any, axes: Any = (ONLY, ONLY), **state: Any) -> Any:
    """Return a frame with any blocks and axes, and other changes of its state."""
    manager = Reduced(Named("pandas.core.internals.managers", "BlockManager"), blocks, list(axes))
    return Made(pd.DataFrame, {**FRAME.__getstate__(), "_mgr": manager, **state})


def single(values: Any, axis: Any = ONLY) -> Any:
    """Return the manager of a series with any values."""
    state = {"0.14.1": {"axes": [axis], "blocks": [{"values": values, "mgr_locs": slice(0, 1)}]}}
    return Made(type(SERIES._mgr), ([], [], [], state))


def categorical(dtype: Any, codes: Any, *more: Any) -> Any:
    function, args, _ = KINDS.__reduce__()
    return Reduced(function, *args, state=(dtype, codes, *more))


def with_a_state(index: Any, state: Any) -> Any:
    function, args, *_ = index.__reduce__()
    return Reduced(function, *args, state=state)


ONE = np.ones((1, 1))

SHAPES: dict[str, Callable[[], Any]] = {
    "an estimator as manager": lambda: series_of(LinearRegression()),
    "a bunch as manager": lambda: series_of(Bunch(axes=[LABELS], items=LABELS, blocks=())),
    "an array as manager": lambda: series_of(np.ones(3)),
    "the manager of a frame": lambda: series_of(Reduced(*FRAME._mgr.__reduce__())),
    "no manager": lambda: Made(pd.Series, {"_typ": "series"}),
    "a frame as manager": lambda: series_of(FRAME),
    "an estimator as values": lambda: series_of(single(LinearRegression())),
    "a list as values": lambda: series_of(single([1])),
    "objects as values": lambda: series_of(single(objects({"a": 1}))),
    "too many values": lambda: series_of(single(np.ones(9))),
    "an array as axis": lambda: series_of(single(np.ones(1), np.ones(1))),
    "an estimator as axis": lambda: series_of(single(np.ones(1), LinearRegression())),
    "an estimator as name": lambda: series_of(single(np.ones(1)), _name=LinearRegression()),
    "attributes": lambda: series_of(single(np.ones(1)), attrs={"a": LinearRegression()}),
    "an estimator as attributes": lambda: series_of(single(np.ones(1)), attrs=LinearRegression()),
    "a block beyond the columns": lambda: frame_of(block(ONE, slice(1, 2))),
    "a block at a far place": lambda: frame_of(block(ONE, np.array([10**9]))),
    "a block before the columns": lambda: frame_of(block(ONE, np.array([-1]))),
    "a missing block": lambda: frame_of(),
    "a block of other length": lambda: frame_of(block(np.ones((1, 9)))),
    "a block of no block": lambda: frame_of(LinearRegression()),
    "three axes": lambda: frame_of(block(ONE), axes=[pd.RangeIndex(1)] * 3),
    "objects as axis": lambda: frame_of(block(ONE), axes=[objects("a"), pd.RangeIndex(1)]),
    "more columns than memory": lambda: frame_of(axes=[pd.RangeIndex(10**12), pd.RangeIndex(1)]),
    "codes beyond the categories": lambda: categorical(KINDS.dtype, np.array([0, 100], "i1")),
    "codes before the categories": lambda: categorical(KINDS.dtype, np.array([0, -100], "i1")),
    "codes of no numbers": lambda: categorical(KINDS.dtype, objects("a")),
    "categories of no dtype": lambda: categorical(LinearRegression(), np.array([0], "i1")),
    "attributes of a categorical": lambda: categorical(KINDS.dtype, np.array([0], "i1"), {"_cache": {}}),
    "categories of an estimator": lambda: Made(
        pd.CategoricalDtype, {"categories": LinearRegression(), "ordered": False}
    ),
    "values of an estimator": lambda: Made(type(NUMBERS), {"_data": LinearRegression(), "_mask": np.ones(2, "?")}),
    "a mask of other length": lambda: Made(type(NUMBERS), {"_data": np.ones(9, "i8"), "_mask": np.ones(2, "?")}),
    "attributes of a masked array": lambda: Made(type(NUMBERS), {**vars(NUMBERS), "shape": (9,)}),
    "labels of objects": lambda: Reduced(*pd.Index(objects({"a": 1}), dtype=object).__reduce__()[:2]),
    "a state of an index": lambda: with_a_state(LABELS, {"_data": LinearRegression()}),
    "a state of a range": lambda: with_a_state(pd.RangeIndex(3), {"_range": range(10**9)}),
    "a cache of an index": lambda: with_a_state(LABELS, {"_cache": {"_engine": LinearRegression()}}),
    "a state of a block": lambda: with_a_state(FRAME._mgr.blocks[0], {"_cache": {}}),
    "a state of a manager": lambda: with_a_state(FRAME._mgr, {"_known_consolidated": True}),
    "a state of a text's dtype": lambda: with_a_state(pd.StringDtype("python"), {"storage": LinearRegression()}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_objects_with_parts_of_other_kinds_are_refused(name: str) -> None:
    content = pickled(FunctionTransformer(kw_args={"initial": [SHAPES[name]()]}))

    with pytest.raises((ArtifactInvalid, ValueError, TypeError, IndexError, AttributeError)):
        unpickle(content)


def test_a_dtype_of_pandas_takes_no_cache() -> None:
    dtype = pd.Int64Dtype()

    read, _ = unpickle(pickled(Made(type(dtype), {"_cache": {"numpy_dtype": "forged"}, "name": "forged"})))

    assert (read.numpy_dtype, read.name) == (dtype.numpy_dtype, dtype.name)


@pytest.mark.parametrize("kind", ["series", "index", "categorical", "masked"])
def test_an_array_that_changes_later_changes_no_object_of_pandas(kind: str) -> None:
    codes = np.array([0, 1], "i8")
    holders: dict[str, Callable[[], Any]] = {
        "series": lambda: series_of(single(codes, pd.RangeIndex(2))),
        "index": lambda: Reduced(Named("pandas.core.indexes.base", "_new_Index"), pd.Index, {"data": codes}),
        "categorical": lambda: categorical(KINDS.dtype, codes),
        "masked": lambda: Made(type(NUMBERS), {"_data": codes, "_mask": np.zeros(2, "?")}),
    }
    (array, value), _ = unpickle(pickled([codes, holders[kind]()]))
    before = list(value)

    array.flags.writeable = True
    array[:] = 100

    assert list(value) == before


@pytest.mark.parametrize(
    "dtype", ["datetime64[ns, dateutil//etc/localtime]", np.str_("int64"), "timestamp[ns, tz=x][pyarrow]"]
)
def test_no_text_names_the_dtype_of_an_index(dtype: str) -> None:
    maker = Named("pandas.core.indexes.base", "_new_Index")

    with pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(pickled(Reduced(maker, pd.Index, {"data": np.array([1]), "dtype": dtype})))
