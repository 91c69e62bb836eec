"""Pickles that would take memory or time without end, or make native code look beyond its arrays."""

import collections
import datetime
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KDTree, KernelDensity
from sklearn.tree import DecisionTreeClassifier

from headrace.errors import ArtifactInvalid
from headrace.loading.states import check_estimator
from headrace.loading.unpickler import unpickle
from tests.unit.headrace.loading.pickles import Named, Reduced, dumped, objects, pickled, with_state


def nested(depth: int) -> Any:
    """Return a tuple whose hash takes 2 ** depth steps."""
    value: Any = (1, 1)
    for _ in range(depth):
        value = (value, value)
    return value


@pytest.mark.parametrize("holder", [b"}%sNs.", b"\x8f(%s\x90.", b"(%s\x91.", b"(%sNd.", b"}(%sNu."])
def test_keys_are_hashed_without_code(holder: bytes) -> None:
    key = pickle.dumps(nested(60), 4)[11:-1]

    with pytest.raises(ArtifactInvalid, match="tuple as a key"):
        unpickle(b"\x80\x04" + holder % key)
    with pytest.raises(ArtifactInvalid, match=r"RBF as a key"):
        unpickle(b"\x80\x04" + holder % pickle.dumps(RBF(), 4)[11:-1])
    with pytest.raises(ArtifactInvalid, match=r"set with other arguments"):
        unpickle(pickled(Reduced(set, [nested(60)])))


@pytest.mark.parametrize(
    "shape",
    [
        Reduced(bytearray, 10**12),
        Reduced(set, range(10**10)),
        Reduced(collections.deque, range(10**10)),
        Reduced(Named("numpy._core.multiarray", "_reconstruct"), np.ndarray, (10**11,), b"d"),
        Reduced(Named("numpy.ma.core", "_mareconstruct"), np.ma.MaskedArray, np.ndarray, (10**11,), b"d"),
        Reduced(Named("numpy._core.multiarray", "scalar"), np.dtype("V999999999"), b"1"),
        Reduced(bytes, 10**12),
        Reduced(str, b"", "evil_codec"),
        Reduced(datetime.timezone, "utc", LogisticRegression()),
    ],
    ids=lambda shape: str(shape._call)[:60],
)
def test_calls_get_the_arguments_that_libraries_write(shape: Any) -> None:
    with pytest.raises(ArtifactInvalid, match="a call of"):
        unpickle(pickled(shape))


def test_an_array_is_not_longer_than_its_file() -> None:
    # The shape of a large array, as joblib writes it, with few bytes behind it.
    content = dumped(np.zeros(70_000)).replace(struct.pack("<I", 70_000)[:3], struct.pack("<I", 2**23 - 1)[:3])
    assert content != dumped(np.zeros(70_000))

    with pytest.raises(EOFError, match="an array ends early"):
        unpickle(content)


@pytest.mark.parametrize("array", [objects(1, 2), np.arange(2.0), np.ma.masked_array(objects(1, 2), [False, True])])
@pytest.mark.parametrize("shape", [(2,), (34,), (1,), (-2, -1), (2**62, 4)])
def test_an_array_has_as_many_items_as_its_shape_says(array: Any, shape: tuple[int, ...]) -> None:
    function, args, state = array.__reduce__()
    content = pickled(Reduced(function, *args, state=(state[0], shape, *state[2:])))
    if shape == (2,):
        assert unpickle(content)[0].shape == shape
        return

    with pytest.raises(ArtifactInvalid, match="another length than its shape"):
        unpickle(content)


def test_the_items_of_an_array_are_no_arrays() -> None:
    reduced: Any = np.zeros(6).__reduce__()
    function, args, state = reduced
    content = pickled(Reduced(function, *args, state=(1, (2,), np.dtype("(3,)f8"), *state[3:])))

    with pytest.raises(ArtifactInvalid, match="another length than its shape"):
        unpickle(content)


DTYPES: dict[str, Any] = {
    # The bytes of an array would be the addresses of its objects.
    "objects without the flag": ("O8", (3, "|", None, None, None, -1, -1, 0)),
    "a field beyond the item": ("V8", (3, "|", None, ("a",), {"a": (np.dtype("f8"), 1000)}, 8, 1, 16)),
    "a field before the item": ("V8", (3, "|", None, ("a",), {"a": (np.dtype("f8"), -8)}, 8, 1, 16)),
    "objects over numbers": (
        "V8",
        (3, "|", None, ("a", "b"), {"a": (np.dtype("O"), 0), "b": (np.dtype("f8"), 0)}, 8, 1, 16),
    ),
    "a field of no dtype": ("V8", (3, "|", None, ("a",), {"a": ("f8", 0)}, 8, 1, 16)),
    "another size": ("f8", (3, "<", None, None, None, 800, 1, 0)),
}


@pytest.mark.parametrize("shape", [(np.uint8(16), np.uint8(17)), (np.int64(16),), [16], (True, 16)])
def test_the_shape_of_an_array_is_of_numbers_that_do_not_overflow(shape: Any) -> None:
    function, args, state = objects(*[None] * 16).__reduce__()
    content = pickled(Reduced(function, *args, state=(state[0], shape, *state[2:])))

    with pytest.raises(ArtifactInvalid, match="a shape of other than whole numbers"):
        unpickle(content)


@pytest.mark.parametrize("shape", DTYPES)
def test_the_layout_of_an_array_is_sound(shape: str) -> None:
    code, state = DTYPES[shape]
    content = pickled(Reduced(np.dtype, code, False, True, state=state))
    try:
        found, _ = unpickle(content)
    except Exception:
        return

    assert (found, found.flags) == (np.dtype(code), np.dtype(code).flags)


@pytest.mark.parametrize(
    "dtype",
    ["f8", ">f4", "O", "U7", "S3", "V5", "?", "M8[ns]", ">M8[2D]", "m8[s]", [("a", "i4"), ("b", "O", (2,))], "(3,)f8"],
    ids=str,
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_sound_layouts_are_read(dtype: Any, protocol: int) -> None:
    for made in (np.dtype(dtype), np.dtype([("x", dtype), ("y", "u1")], align=True)):
        found, _ = unpickle(pickle.dumps([made, made], protocol))

        assert found == [made, made]
        assert (found[0].flags, found[0].itemsize) == (made.flags, made.itemsize)


def tree(**changes: Any) -> Any:
    """Return a fitted tree, pickled with changes in the links of its first node."""
    fitted = DecisionTreeClassifier().fit([[0.0], [1.0], [2.0]], [0, 1, 0])
    function, args, state = fitted.tree_.__reduce__()
    for field, value in changes.items():
        state["nodes"][field][0] = value
    return Reduced(function, *args, state=state)


def neighbours(order: Any = None, **changes: int) -> Any:
    """Return a tree of neighbours, pickled with changes in its only node, or of the order of its rows."""
    function, args, state = KDTree([[0.0], [1.0], [2.0]]).__reduce__()
    for field, value in changes.items():
        state[2][field][0] = value
    return Reduced(function, *args, state=state if order is None else (state[0], order, *state[2:]))


def without_state(value: Any) -> Any:
    function, args, _ = value.__reduce__()
    return Reduced(function, *args)


def random_state(pos: int = 0) -> Any:
    """Return a random state whose next word is at some position."""
    function, args, state = np.random.RandomState(0).__reduce__()
    return Reduced(function, *args, state={**state, "state": {**state["state"], "pos": pos}})


def boosting(**changes: Any) -> Any:
    estimator = HistGradientBoostingRegressor(max_iter=1, min_samples_leaf=1).fit([[0.0], [1.0]] * 9, [0.0, 1.0] * 9)
    nodes = estimator._predictors[0][0].nodes
    for field, value in changes.items():
        nodes[field][0] = value
    return estimator


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        (lambda: with_state(DecisionTreeClassifier(), tree_=tree(), n_features_in_=1), True),
        (lambda: tree(left_child=10**6), False),
        (lambda: tree(right_child=-7), False),
        (lambda: tree(left_child=0), False),
        (lambda: tree(feature=10**6), False),
        (lambda: tree(feature=-5), False),
        (lambda: without_state(DecisionTreeClassifier().fit([[0.0]], [0]).tree_), False),
        (lambda: with_state(KernelDensity(), tree_=neighbours()), True),
        (lambda: neighbours(idx_end=10**6), False),
        (lambda: neighbours(idx_start=-1), False),
        (lambda: neighbours(is_leaf=0), False),
        (lambda: neighbours(order=np.array([0, 10**6, 1])), False),
        (lambda: neighbours(order=np.array([0])), False),
        (lambda: without_state(KDTree([[0.0]])), False),
        (random_state, True),
        (lambda: random_state(pos=10**6), False),
        (lambda: random_state(pos=-1), False),
        (boosting, True),
        (lambda: boosting(left=10**6), False),
        (lambda: boosting(right=0), False),
        (lambda: boosting(is_categorical=1, bitset_idx=7), False),
    ],
)
def test_the_links_of_trees_lead_into_the_tree(shape: Callable[..., Any], fits: bool) -> None:
    content = dumped(shape())
    if fits:
        unpickle(content)
        return

    with pytest.raises(ArtifactInvalid, match=r"a tree|has links"):
        unpickle(content)


@pytest.mark.parametrize("left_child", [1, 10**6])
def test_the_links_of_trees_in_skops_artifacts_are_checked_too(left_child: int) -> None:
    estimator = DecisionTreeClassifier().fit([[0.0], [1.0], [2.0]], [0, 1, 0])
    function, args, state = estimator.tree_.__reduce__()
    state["nodes"]["left_child"][0] = left_child
    estimator.tree_ = function(*args)
    estimator.tree_.__setstate__(state)

    if left_child == 1:
        check_estimator([estimator])
        return
    with pytest.raises(ArtifactInvalid, match="has links"):
        check_estimator([estimator])


def wide(estimator: Any, change: Callable[[Any], None]) -> Any:
    """Return an estimator of two features, changed after its fit."""
    estimator.fit([[0.0, 1.0], [1.0, 0.0]] * 20, [0, 1] * 20)
    change(estimator)
    return estimator


@pytest.mark.parametrize(
    "estimator",
    [
        wide(DecisionTreeClassifier(), lambda tree: setattr(tree, "n_features_in_", 1)),
        wide(RandomForestClassifier(2), lambda forest: setattr(forest, "n_features_in_", 1)),
        wide(GradientBoostingRegressor(n_estimators=2), lambda stages: setattr(stages, "n_features_in_", 1)),
        wide(
            HistGradientBoostingRegressor(max_iter=1),
            lambda stages: stages._predictors[0][0].nodes["feature_idx"].fill(10**6),
        ),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_trees_are_for_rows_as_wide_as_the_estimator_takes(estimator: Any) -> None:
    with pytest.raises(ArtifactInvalid, match=r"another width|has links"):
        unpickle(dumped(estimator))


def test_a_tree_has_as_many_outputs_as_it_says() -> None:
    function, (n_features, n_classes, _), state = (
        DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1]).tree_.__reduce__()
    )

    with pytest.raises(ArtifactInvalid, match="other arguments"):
        unpickle(pickled(Reduced(function, n_features, n_classes, 10**6, state=state)))
