"""Numbers that native code follows without a check: links between the nodes of trees, positions in arrays."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.cluster import Birch
from sklearn.cluster._kmeans import _BaseKMeans
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.metrics import DistanceMetric
from sklearn.metrics._dist_metrics import DistanceMetric64
from sklearn.mixture._base import BaseMixture
from sklearn.multioutput import _BaseChain
from sklearn.neighbors import BallTree, KDTree
from sklearn.neighbors._base import NeighborsBase
from sklearn.preprocessing import (
    LabelBinarizer,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    TargetEncoder,
)
from sklearn.svm._base import LIBSVM_IMPL, BaseLibSVM
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from headrace.errors import ArtifactInvalid
from headrace.loading.fitted.encoders import (
    check_categories,
    check_classes,
    check_encodings,
    check_labels,
    check_one_hot,
)
from headrace.loading.fitted.ensembles import check_histograms, check_isolation, check_stages, check_widths
from headrace.loading.fitted.inside import ANY, check_columns, check_inside, has_shape, whole
from headrace.loading.fitted.neighbours import check_centres, check_covariance, check_neighbours
from headrace.loading.fitted.outputs import check_mixture, check_order
from headrace.loading.makers import check_sparse, remake_splines

LINKED = (BallTree, DistanceMetric, KDTree, Tree)
"""Classes whose objects are unusable without their state: native code would follow what is in their memory by chance.
"""

_NODES = np.asarray(KDTree([[0.0]]).get_arrays()[2]).dtype

MERSENNE_WORDS = 624
PHILOX_WORDS = 4
BITSET_WORDS = 8

HASHES_MAX = 2**31 - 1
"""Columns over which scikit-learn spreads hashes, at most."""

PAIRWISE = "sklearn.metrics.pairwise"
"""Module whose functions answer a matrix of a value for each two rows."""

_LIBRARIES = frozenset(["builtins", "numpy", "pandas", "scipy", "sklearn"])
"""Libraries whose other functions are trusted as functions, and not as kernels; trusted modules' own may be either."""


def check_links(target: Any, state: Any) -> None:
    """Check that the state of an object has no links out of its arrays.

    Raises:
        ArtifactInvalid: if it has.
        Exception: if it is no state of such an object at all.
    """
    if isinstance(target, np.ndarray):
        _check_content(*state[1:5])
    elif isinstance(target, Tree):
        nodes = np.asarray(state["nodes"])
        if whole(state["node_count"]) != len(nodes):
            raise ArtifactInvalid("a tree has another number of nodes than it says")
        # Without a class, a tree has no values.
        check_inside(np.zeros(1, np.int64), target.max_n_classes)
        inner = nodes["left_child"] != -1
        _check_children(nodes["left_child"], nodes["right_child"], inner)
        check_inside(nodes["feature"][inner], target.n_features)
    elif isinstance(target, TreePredictor):
        nodes = np.asarray(state["nodes"])
        _check_children(nodes["left"], nodes["right"], nodes["is_leaf"] == 0)
        sets = state["raw_left_cat_bitsets"]
        if not has_shape(sets, ANY, BITSET_WORDS):
            raise ArtifactInvalid("a tree has categories in sets of another size")
        check_inside(nodes["bitset_idx"][nodes["is_categorical"] != 0], len(sets))
    elif isinstance(target, KDTree | BallTree):
        _check_neighbours(target, state)
    elif isinstance(target, DistanceMetric):
        # Where it stands alone, scikit-learn looks at the rows of the matrix only.
        if not has_shape(state[2], len(state[2]), len(state[2])):
            raise ArtifactInvalid("the matrix of a metric is not square")
    elif isinstance(target, np.random.BitGenerator | np.random.RandomState):
        # The state of a generator is followed by its seeds.
        words: Mapping[str, Any] = state[0] if type(state) is tuple else state
        check_inside(np.array([words["state"].get("pos", 0)]), MERSENNE_WORDS + 1)
        check_inside(np.array([words.get("buffer_pos", 0)]), PHILOX_WORDS + 1)


def check_linked_parts(part: Any) -> None:
    """Check a part of an estimator that was read, and the trees that are its attributes.

    Raises:
        ArtifactInvalid: if it has links out of its arrays, or trees for rows of another width than it takes.
    """
    # Of a width that is no number, such as a masked one, scikit-learn may find that it is no other one.
    if not isinstance(vars(part).get("n_features_in_", 0), int | np.integer):
        raise ArtifactInvalid("an estimator takes rows of a width that is no number")
    for kind, check in _POSITIONS.items():
        if isinstance(part, kind):
            check(part)
    for each in vars(part).values():
        if issparse(each):
            check_sparse(each)
        elif isinstance(each, BallTree | KDTree | Tree | np.random.RandomState):
            check_links(each, each.__getstate__())
        elif isinstance(each, np.random.Generator):
            check_links(each.bit_generator, each.bit_generator.state)


def _check_content(shape: Any, dtype: Any, _: Any, content: Any) -> None:
    """Check that an array has as many items as its shape says: of objects, NumPy takes what follows a shorter list."""
    if type(shape) is not tuple or any(type(each) is not int for each in shape):
        raise ArtifactInvalid("an array has a shape of other than whole numbers")
    n_items = math.prod(shape)
    length, kind = (n_items, list) if dtype.hasobject else (n_items * dtype.itemsize, bytes)
    if dtype.subdtype or min(shape, default=0) < 0 or type(content) is not kind or len(content) != length:
        raise ArtifactInvalid("the content of an array has another length than its shape")


def _check_children(left: Any, right: Any, inner: Any) -> None:
    """Check that there is a node, and that the children of each inner node follow it."""
    check_inside(np.zeros(1, np.int64), len(inner))
    own = np.arange(len(inner))[inner]
    for children in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        check_inside(children, len(inner), own + 1)


def _check_neighbours(target: Any, state: Any) -> None:
    rows, order, nodes, bounds, *_ = state
    if nodes.dtype != _NODES:
        raise ArtifactInvalid("a tree has nodes of other fields than scikit-learn's: native code goes by their places")
    n_rows, n_features = rows.shape
    corners = 2 if isinstance(target, KDTree) else 1
    n_nodes = whole(state[6])
    # Native code divides by the size of a leaf.
    if whole(state[4]) < 1:
        raise ArtifactInvalid("a tree has leaves of no rows")
    weights = state[12]
    if weights is not None and weights.shape != (n_rows,):
        raise ArtifactInvalid("a tree has weights for another number of rows")
    if order.shape != (n_rows,) or nodes.shape != (n_nodes,) or bounds.shape != (corners, n_nodes, n_features):
        raise ArtifactInvalid("the arrays of a tree have different lengths")
    check_inside(order, n_rows)
    check_inside(nodes["idx_start"], n_rows)
    check_inside(nodes["idx_end"], n_rows + 1, nodes["idx_start"])
    inner = np.arange(n_nodes)[nodes["is_leaf"] == 0]
    # The children of node i are 2 i + 1 and 2 i + 2.
    check_inside(np.append(2 * inner + 2, 0), n_nodes)
    # Native code takes None for a metric too, and calls what is behind it.
    if not isinstance(state[11], DistanceMetric64):
        raise ArtifactInvalid("a tree has no metric")
    _check_metric(state[11], n_features)


def _check_metric(metric: Any, n_features: int) -> None:
    """Check that the parameters of a metric are for vectors of so many features."""
    _, vector, matrix, *_ = metric.__getstate__()
    name = type(metric).__name__
    is_wide = name.startswith("Haversine") and n_features != 2
    is_wide = is_wide or (name.startswith("SEuclidean") and vector.shape != (n_features,))
    is_wide = is_wide or (name.startswith("Mahalanobis") and matrix.shape != (n_features, n_features))
    # Without weights, the vector is empty.
    is_wide = is_wide or (name.startswith("Minkowski") and vector.shape not in ((0,), (n_features,)))
    if is_wide:
        raise ArtifactInvalid("a metric is for rows of another width")


def _check_vocabulary(part: Any) -> None:
    if "vocabulary_" in vars(part):
        check_columns(vars(part)["vocabulary_"])


def _check_hashes(part: Any) -> None:
    """Check that hashes have columns: native code divides by their number, and 0 would end the process."""
    check_inside(whole(vars(part).get("n_features")), HASHES_MAX + 1, 1)


def _check_products(part: Any) -> None:
    """Check that scikit-learn fills all the columns that it makes for the products of features."""
    fitted = vars(part)
    if "n_output_features_" not in fitted:
        return
    options = {name: fitted[name] for name in ("interaction_only", "include_bias")}
    width, degree = whole(fitted["n_features_in_"]), whole(fitted["_max_degree"])
    for name, least in [("_n_out_full", 0), ("n_output_features_", whole(fitted["_min_degree"]))]:
        if whole(fitted[name]) != part._num_combinations(width, least, degree, **options):
            raise ArtifactInvalid("an estimator has another number of columns than products of features")


def _check_vectors(part: Any) -> None:
    """Check the arrays of a support vector machine: libsvm takes their lengths for granted."""
    fitted = vars(part)
    if "support_vectors_" not in fitted:
        return
    support, vectors, counts = fitted["support_"], fitted["support_vectors_"], fitted["_n_support"]
    weights, n_vectors, n_classes = fitted["_dual_coef_"], len(support), len(counts)
    n_pairs = n_classes * (n_classes - 1) // 2
    is_classifier = part._impl in LIBSVM_IMPL[:2]
    is_sparse, is_computed = bool(fitted["_sparse"]), callable(part.kernel) or part.kernel == "precomputed"
    check_inside(support, fitted["shape_fit_"][0])
    if callable(part.kernel):
        _check_kernel(part.kernel, fitted["_BaseLibSVM__Xfit"], fitted["shape_fit_"][0])
    if not (
        ((counts.min() >= 0 and counts.sum() == n_vectors) if is_classifier else n_classes == 2)
        and is_sparse == issparse(vectors) == issparse(weights)
        and not (is_sparse and is_computed)
        and (vectors.shape[0] == n_vectors or (is_computed and vectors.size == 0))
        and (weights.data if is_sparse else weights).size == (n_classes - 1) * n_vectors
        and fitted["_intercept_"].shape == (n_pairs,)
        and len(fitted["_probA"]) == len(fitted["_probB"])
        and len(fitted["_probA"]) in ((n_pairs,) if fitted.get("_effective_probability") else (0, n_pairs))
    ):
        raise ArtifactInvalid("the arrays of a support vector machine have different lengths")


def _check_kernel(kernel: Any, rows: Any, n_rows: int) -> None:
    """Check that a function answers a value for each row of training: libsvm takes as many for granted."""
    if isinstance(kernel, partial) and not kernel.args:
        kernel = kernel.func
    module = kernel.__module__ if isinstance(kernel, FunctionType) else "builtins"
    is_matrix = module == PAIRWISE or module.partition(".")[0] not in _LIBRARIES
    if not is_matrix or not hasattr(rows, "shape") or rows.shape[0] != n_rows:
        raise ArtifactInvalid("the kernel of a support vector machine does not compare rows")


_POSITIONS: dict[Any, Callable[[Any], None]] = {
    BaseDecisionTree | BaseForest | BaseGradientBoosting: check_widths,
    BaseGradientBoosting: check_stages,
    BaseHistGradientBoosting: check_histograms,
    BaseLibSVM: _check_vectors,
    BaseMixture: check_mixture,
    _BaseChain: check_order,
    CountVectorizer | DictVectorizer: _check_vocabulary,
    FeatureHasher | HashingVectorizer: _check_hashes,
    LabelBinarizer: check_classes,
    MultiLabelBinarizer: check_labels,
    PolynomialFeatures: _check_products,
    SplineTransformer: remake_splines,
    NeighborsBase: check_neighbours,
    EmpiricalCovariance: check_covariance,
    _BaseKMeans | Birch: check_centres,
    IsolationForest: check_isolation,
    OneHotEncoder | OrdinalEncoder | TargetEncoder: check_categories,
    OneHotEncoder: check_one_hot,
    TargetEncoder: check_encodings,
    TreePredictor: lambda part: check_links(part, vars(part)),
}
"""Estimators and their parts whose attributes native code follows -> the check of such a part."""
