"""Numbers that native code follows without a check: links between the nodes of trees, positions in arrays."""

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.neighbors import BallTree, KDTree
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from headrace.errors import ArtifactInvalid

LINKED = (BallTree, KDTree, Tree)
"""Classes whose objects are unusable without their state: native code would follow what is in their memory by chance.
"""

MERSENNE_WORDS = 624
PHILOX_WORDS = 4


def check_links(target: Any, state: Any) -> None:
    """Check that the state of an object has no links out of its arrays.

    Raises:
        ArtifactInvalid: if it has.
        Exception: if it is no state of such an object at all.
    """
    if isinstance(target, np.ndarray):
        _check_content(*state[1:5])
    elif isinstance(target, Tree):
        nodes = state["nodes"]
        inner = nodes["left_child"] != -1
        _check_children(nodes["left_child"], nodes["right_child"], inner)
        _check(nodes["feature"][inner], target.n_features)
    elif isinstance(target, TreePredictor):
        nodes = state["nodes"]
        _check_children(nodes["left"], nodes["right"], nodes["is_leaf"] == 0)
        _check(nodes["bitset_idx"][nodes["is_categorical"] != 0], len(state["raw_left_cat_bitsets"]))
    elif isinstance(target, KDTree | BallTree):
        _check_neighbours(target, state)
    elif isinstance(target, np.random.BitGenerator | np.random.RandomState):
        # The state of a generator is followed by its seeds.
        words: Mapping[str, Any] = state[0] if type(state) is tuple else state
        _check(np.array([words["state"].get("pos", 0)]), MERSENNE_WORDS + 1)
        _check(np.array([words.get("buffer_pos", 0)]), PHILOX_WORDS + 1)


def unshared(target: Any, state: Any) -> Any:
    """Return the state of an object with memory of its own for what was checked.

    A pickle may let two objects share an array, of which one is changed while it predicts: NumPy's functions write into
    the array that they get as `out`. Read-only arrays are mapped from the file, and nothing changes them.
    """
    if isinstance(target, np.ndarray):
        # NumPy shares long bytes with the array that it makes of them.
        return tuple(bytes(memoryview(each)) if type(each) is bytes else each for each in state)
    if isinstance(target, TreePredictor):
        return {name: _own(each) for name, each in state.items()}
    if isinstance(target, KDTree | BallTree):
        # The rows are no links.
        rows, *others = state
        return rows, *map(_own, others)
    return state


def _own(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) and value.flags.writeable else value


def check_linked_parts(part: Any) -> None:
    """Check a part of an estimator that was read, and the trees that are its attributes.

    Raises:
        ArtifactInvalid: if it has links out of its arrays, or trees for rows of another width than it takes.
    """
    n_features = vars(part).get("n_features_in_")
    widths = []
    if isinstance(part, BaseDecisionTree) and hasattr(part, "tree_"):
        widths = [part.tree_.n_features]
    elif isinstance(part, BaseForest | BaseGradientBoosting):
        widths = [each.n_features_in_ for each in np.ravel(vars(part).get("estimators_", []))]
    elif isinstance(part, BaseHistGradientBoosting):
        for each in chain.from_iterable(vars(part).get("_predictors", [])):
            _check(each.nodes["feature_idx"], n_features)
    if any(each != n_features for each in widths):
        raise ArtifactInvalid("a tree is for rows of another width")
    if isinstance(part, TreePredictor):
        check_links(part, vars(part))
    for each in vars(part).values():
        if isinstance(each, LINKED):
            check_links(each, each.__getstate__())


def _check_content(shape: Any, dtype: Any, _: Any, content: Any) -> None:
    """Check that an array has as many items as its shape says: of objects, NumPy takes what follows a shorter list."""
    n_items = math.prod(shape)
    length, kind = (n_items, list) if dtype.hasobject else (n_items * dtype.itemsize, bytes)
    if dtype.subdtype or min(shape, default=0) < 0 or type(content) is not kind or len(content) != length:
        raise ArtifactInvalid("the content of an array has another length than its shape")


def _check_children(left: Any, right: Any, inner: Any) -> None:
    """Check that there is a node, and that the children of each inner node follow it."""
    _check(np.zeros(1, np.int64), len(inner))
    own = np.arange(len(inner))[inner]
    for children in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        _check(children, len(inner), own + 1)


def _check_neighbours(target: Any, state: Any) -> None:
    rows, order, nodes, bounds, *_ = state
    n_rows, n_features = rows.shape
    corners = 2 if isinstance(target, KDTree) else 1
    n_nodes = int(state[6])
    if order.shape != (n_rows,) or nodes.shape != (n_nodes,) or bounds.shape != (corners, n_nodes, n_features):
        raise ArtifactInvalid("the arrays of a tree have different lengths")
    _check(order, n_rows)
    _check(nodes["idx_start"], n_rows)
    _check(nodes["idx_end"], n_rows + 1, nodes["idx_start"])
    inner = np.arange(n_nodes)[nodes["is_leaf"] == 0]
    # The children of node i are 2 i + 1 and 2 i + 2.
    _check(np.append(2 * inner + 2, 0), n_nodes)


def _check(positions: Any, end: int, start: Any = 0) -> None:
    if not ((positions >= start) & (positions < end)).all():
        raise ArtifactInvalid("it has links or positions that lead out of its arrays")
