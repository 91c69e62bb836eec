"""Fitted attributes that native code takes for positions or lengths: with others it would write beyond its arrays."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import skops.io
from scipy.spatial.distance import minkowski
from sklearn.cluster import Birch, BisectingKMeans, KMeans
from sklearn.covariance import EllipticEnvelope, LedoitWolf
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.manifold import Isomap
from sklearn.metrics import DistanceMetric
from sklearn.metrics.pairwise import linear_kernel, rbf_kernel
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.neighbors import (
    BallTree,
    KDTree,
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
)
from sklearn.neighbors._ball_tree import BallTree32, BallTree64
from sklearn.neighbors._kd_tree import KDTree32, KDTree64
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    LabelBinarizer,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeRegressor
from sklearn.tree._tree import Tree
from sklearn.utils import Bunch

from headrace.errors import ArtifactInvalid
from headrace.loading.archive import load_skops
from headrace.loading.states import check_estimator
from headrace.loading.unpickler import unpickle
from tests.unit.headrace.loading.pickles import Reduced, dumped, objects, with_state

ROWS = np.random.default_rng(0).random((60, 3))
CLASSES = np.arange(60) % 3
NUMBERS = np.array([[1], [1], [2], [3], [4]])
BOOSTED = {"n_estimators": 2, "max_depth": 1}


def labels() -> Any:
    estimator = MultiLabelBinarizer().fit([[1.0, 2.0]])
    estimator.transform([[1.0]])
    return estimator


def mixture(kind: Any, covariance: str) -> Any:
    return kind(n_components=2, covariance_type=covariance, random_state=0).fit(ROWS)


SOUND: dict[str, Callable[[], Any]] = {
    "encoder": lambda: OneHotEncoder().fit(NUMBERS),
    "encoder of texts": lambda: OneHotEncoder().fit([["b"], ["a"]]),
    "encoder of gaps": lambda: OneHotEncoder().fit([[1.0], [np.nan]]),
    "encoder without the first": lambda: OneHotEncoder(drop="first").fit([["b", 1], ["a", 2]]),
    "encoder without one of two": lambda: OneHotEncoder(drop="if_binary").fit([["b", 1], ["a", 2], ["c", 1]]),
    "encoder of rare ones": lambda: OneHotEncoder(min_frequency=2, handle_unknown="infrequent_if_exist").fit(NUMBERS),
    "encoder of few": lambda: OneHotEncoder(max_categories=2, drop="first").fit(np.hstack([NUMBERS, NUMBERS // 2])),
    "words": lambda: CountVectorizer().fit(["a word", "another word"]),
    "weighed words": lambda: TfidfVectorizer(vocabulary=["a", "b"]).fit(["a b"]),
    "hashes": lambda: FeatureHasher(n_features=np.int64(8)),
    "hashes of words": lambda: HashingVectorizer(n_features=2**31 - 1),
    "dictionaries": lambda: DictVectorizer().fit([{"a": 1}, {"b": "x"}]),
    "labels": lambda: MultiLabelBinarizer().fit([[1.0, 2.0]]),
    "labels that were asked for": labels,
    "labels of several kinds": lambda: MultiLabelBinarizer(classes=["a", ("b", 1), 2]).fit([]),
    "classes": lambda: LabelBinarizer().fit(CLASSES),
    "classes of texts": lambda: LabelBinarizer().fit(objects("b", "a", "c")),
    "classes of a matrix": lambda: LabelBinarizer().fit(np.eye(3, dtype=int)),
    "products": lambda: PolynomialFeatures().fit(ROWS),
    "products of several features": lambda: PolynomialFeatures((2, 3), interaction_only=True).fit(ROWS),
    "vectors": lambda: SVC().fit(ROWS, CLASSES),
    "vectors of a kernel": lambda: NuSVC(kernel="precomputed", nu=0.1).fit(ROWS @ ROWS.T, CLASSES),
    "vectors of rows": lambda: SVC(kernel=rbf_kernel).fit(ROWS, CLASSES),
    "vectors of rows at a distance": lambda: SVC(kernel=functools.partial(rbf_kernel, gamma=0.5)).fit(ROWS, CLASSES),
    "targets": lambda: TargetEncoder(cv=2).fit(NUMBERS, [0.0, 1.0, 2.0, 3.0, 4.0]),
    "targets of classes": lambda: TargetEncoder(cv=2, target_type="multiclass").fit(
        np.tile(NUMBERS, (6, 1)), np.arange(30) % 3
    ),
    "numbers of categories": lambda: OrdinalEncoder().fit([[2.0], [1.0], [np.nan]]),
    "vectors of numbers": lambda: SVR().fit(ROWS, CLASSES),
    "vectors of one class": lambda: OneClassSVM().fit(ROWS),
    "sparse vectors": lambda: SVC().fit(scipy.sparse.csr_matrix(ROWS), CLASSES),
    "stages": lambda: GradientBoostingClassifier(**BOOSTED).fit(ROWS, CLASSES),
    "stages of two classes": lambda: GradientBoostingClassifier(**BOOSTED).fit(ROWS, CLASSES > 1),
    "stages of numbers": lambda: GradientBoostingRegressor(**BOOSTED, loss="quantile").fit(ROWS, CLASSES),
    "stages from zero": lambda: GradientBoostingClassifier(**BOOSTED, init="zero").fit(ROWS, CLASSES),
    "trees": lambda: RandomForestRegressor(n_estimators=2, max_depth=1).fit(ROWS, CLASSES),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(
        np.column_stack([CLASSES, ROWS]), ROWS[:, 0] > 0.5
    ),
    "neighbours": lambda: KNeighborsTransformer(algorithm="brute").fit(ROWS),
    "neighbours of texts": lambda: KNeighborsTransformer(n_neighbors=1).fit(scipy.sparse.csr_matrix(ROWS)),
    "neighbours by distances": lambda: KNeighborsTransformer(metric="precomputed").fit(ROWS @ ROWS.T),
    "outliers": lambda: LocalOutlierFactor(novelty=True).fit(ROWS),
    "weighed neighbours": lambda: KNeighborsRegressor(
        algorithm="ball_tree", metric="mahalanobis", metric_params={"V": np.eye(3)}
    ).fit(ROWS, CLASSES),
    "neighbours of weighed features": lambda: KNeighborsRegressor(
        algorithm="brute", metric="mahalanobis", metric_params={"VI": np.eye(3)}
    ).fit(ROWS, CLASSES),
    "neighbours of scaled features": lambda: KNeighborsTransformer(
        algorithm="brute", metric="seuclidean", metric_params={"V": np.ones(3)}
    ).fit(ROWS),
    "neighbours by listed weights": lambda: KNeighborsTransformer(
        algorithm="ball_tree", metric_params={"w": [1.0, 2.0, 3.0]}
    ).fit(ROWS),
    "neighbours by a function": lambda: KNeighborsTransformer(
        algorithm="brute", metric=minkowski, metric_params={"w": 2.0}
    ).fit(ROWS),
    "a manifold": lambda: Isomap(
        metric="mahalanobis", metric_params={"VI": np.eye(3)}, neighbors_algorithm="brute"
    ).fit(ROWS),
    "an envelope": lambda: EllipticEnvelope(random_state=0).fit(ROWS),
    "an envelope of one feature": lambda: EllipticEnvelope(random_state=0).fit(ROWS[:, :1]),
    "an envelope without its inverse": lambda: EllipticEnvelope(store_precision=False, random_state=0).fit(ROWS),
    "a covariance": lambda: LedoitWolf().fit(ROWS[:, :1]),
    "classes of neighbours": lambda: KNeighborsClassifier(algorithm="brute").fit(ROWS, CLASSES),
    "classes of a radius": lambda: RadiusNeighborsClassifier(algorithm="brute").fit(ROWS, CLASSES),
    "isolation": lambda: IsolationForest(n_estimators=2).fit(ROWS),
    "isolation by two features": lambda: IsolationForest(n_estimators=2, max_features=2).fit(ROWS),
    "a chain": lambda: RegressorChain(LinearRegression()).fit(ROWS, ROWS),
    "a chain in a listed order": lambda: RegressorChain(LinearRegression(), order=[2, 0, 1]).fit(ROWS, ROWS),
    "a chain in an order of a tuple": lambda: RegressorChain(LinearRegression(), order=(2, 0, 1)).fit(ROWS, ROWS),
    "a chain in a random order": lambda: ClassifierChain(LogisticRegression(), order="random").fit(
        ROWS, np.eye(3, dtype=int)[CLASSES]
    ),
    **{
        f"{covariance} components": functools.partial(mixture, GaussianMixture, covariance)
        for covariance in ("full", "tied", "diag", "spherical")
    },
    "components of a prior": lambda: mixture(BayesianGaussianMixture, "full"),
    "clusters": lambda: KMeans(3, n_init=1).fit(ROWS),
    "clusters of halves": lambda: BisectingKMeans(3).fit(ROWS),
    "clusters of a tree": lambda: Birch(threshold=0.1, n_clusters=None).fit(ROWS),
    "bins": lambda: KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf").fit(ROWS),
    "splines": lambda: SplineTransformer().fit(ROWS),
    "sparse weights": lambda: LogisticRegression().fit(ROWS, CLASSES).sparsify(),
    **{
        f"{form} {kind}": lambda form=form, kind=kind: FunctionTransformer(  # type: ignore[misc]
            kw_args={"initial": getattr(scipy.sparse, f"{form}_{kind}")(np.eye(4))}
        )
        for form in ("bsr", "coo", "csc", "csr", "dia")
        for kind in ("array", "matrix")
    },
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_positions_are_read(name: str) -> None:
    estimator = SOUND[name]()

    read, _ = unpickle(dumped(make_pipeline(estimator)))

    assert type(read[0]) is type(estimator)
    if "kw_args" in vars(estimator):
        held, expected = read[0].kw_args["initial"], estimator.kw_args["initial"]
        assert type(held) is type(expected)
        assert (held.toarray() == expected.toarray()).all()


def without(estimator: Any, name: str) -> Any:
    del vars(estimator)[name]
    return estimator


def narrow_metric() -> Any:
    metric = DistanceMetric.get_metric("mahalanobis", VI=np.eye(3))
    metric.__setstate__((2.0, np.zeros(1), np.ones((3, 0))))
    return metric


def changed(name: str, **attributes: Any) -> Any:
    estimator = SOUND[name]()
    vars(estimator).update(attributes)
    return estimator


def stages(width: int, **attributes: Any) -> Any:
    """Return a gradient boosting with so many trees in each stage."""
    tree = DecisionTreeRegressor(max_depth=1).fit(ROWS, CLASSES)
    return changed("stages", estimators_=objects(*[tree] * width).reshape(1, width), **attributes)


def first(**attributes: Any) -> Any:
    dummy = DummyClassifier(strategy="prior").fit(ROWS, CLASSES)
    vars(dummy).update(attributes)
    return dummy


def regression(**attributes: Any) -> Any:
    dummy = DummyRegressor().fit(ROWS, CLASSES)
    vars(dummy).update(attributes)
    return dummy


def loss(**attributes: Any) -> Any:
    found = SOUND["stages"]()._loss
    vars(found).update(attributes)
    return found


def wide_tree(tree: Any) -> Any:
    """Return a tree that asks for the last of many features."""
    state = tree.tree_.__getstate__()
    nodes = state["nodes"].copy()
    nodes["feature"][0] = 1 << 45
    wide = Tree(1 << 46, np.ones(1, np.intp), 1)
    wide.__setstate__({**state, "nodes": nodes})
    return wide


def with_tree(name: str, position: int, make: Callable[[Any], Any]) -> Any:
    """Return an ensemble whose tree at a position is replaced by what is made of it."""
    estimator = SOUND[name]()
    trees = np.array(estimator.estimators_, dtype=object)
    trees.flat[position] = make(trees.flat[position])
    estimator.estimators_ = trees if trees.ndim == 2 else trees.tolist()
    return estimator


def no_tree(tree: Any) -> Any:
    linear = LinearRegression().fit(ROWS, CLASSES)
    return with_state(linear, tree_=wide_tree(tree))


def without_values(tree: Any) -> Any:
    """Return a tree of no class, which has a position for each node and a value for none."""
    state = tree.tree_.__getstate__()
    empty = Tree(3, np.zeros(1, np.intp), 1)
    empty.__setstate__({**state, "values": np.zeros((len(state["nodes"]), 1, 0))})
    return changed_part(tree, tree_=empty)


def changed_part(part: Any, **attributes: Any) -> Any:
    return with_state(copy.copy(part), **attributes)


def widened(tree: Any) -> Any:
    return changed_part(tree, tree_=wide_tree(tree), n_features_in_=1 << 46)


def narrow_half(make: Callable[[Any], Any]) -> Any:
    estimator = SOUND["clusters of halves"]()
    tree = estimator._bisecting_tree
    tree.left, tree.right = make(tree.left), make(tree.right)
    return estimator


def encoded(**attributes: Any) -> Any:
    estimator = SOUND["histograms"]()
    vars(estimator._preprocessor).update(attributes)
    return estimator


def narrow_manifold() -> Any:
    estimator = SOUND["a manifold"]()
    estimator.nbrs_.effective_metric_params_ = {"VI": np.ones((1, 1))}
    return estimator


def no_neighbours() -> Any:
    rows = {"_fit_X": np.zeros((0, 3)), "_y": np.zeros(0, int), "n_samples_fit_": 0, "n_neighbors": 0}
    return changed("classes of neighbours", **rows)


def leaves(size: int) -> Any:
    estimator = SOUND["weighed neighbours"]()
    state = estimator._tree.__getstate__()
    estimator._tree.__setstate__((*state[:4], size, *state[5:]))
    return estimator


HALF_A_GAP = np.array([0, 1, 2, complex(1, np.nan)])
"""Numbers of which the last is unequal to itself, and less than NaN in the order of NumPy."""


def binned() -> Any:
    estimator = SOUND["bins"]()
    estimator._encoder.categories_ = [*estimator._encoder.categories_[:2], HALF_A_GAP]
    return estimator


def small_sets() -> Any:
    estimator = SOUND["histograms"]()
    vars(estimator._predictors[0][0]).update(raw_left_cat_bitsets=np.zeros((9, 1), np.uint32))
    return estimator


def mapped(**attributes: Any) -> Any:
    """Return a histogram gradient boosting with changes of its bins."""
    estimator = SOUND["histograms"]()
    vars(estimator._bin_mapper).update(attributes)
    return estimator


POSITIONS: dict[str, Callable[[], Any]] = {
    "fewer columns than categories": lambda: changed("encoder", _n_features_outs=[1]),
    "columns before the first": lambda: changed("encoder", categories_=[NUMBERS[:, 0]] * 2, _n_features_outs=[-5, 13]),
    "categories that are not sorted": lambda: changed("encoder", categories_=[np.array([9, 1, 2, 3])]),
    **{
        f"half a gap in {name}": functools.partial(changed, name, categories_=[HALF_A_GAP])
        for name in ("encoder", "numbers of categories", "targets")
    },
    "times as categories": lambda: changed("encoder", categories_=[np.array([1, 2, 3, "NaT"], "datetime64[s]")]),
    "a gap between categories": lambda: changed("encoder", categories_=[np.array([1, np.nan, 2, 3])]),
    "half a gap in bins": binned,
    "categories that are sorted in part": lambda: changed("encoder", categories_=[np.array([2, 4, 1, 3])]),
    "a dropped one between two": lambda: changed(
        "encoder without the first", _drop_idx_after_grouping=objects(0.5, 0.5)
    ),
    "targets without encodings": lambda: changed("targets", encodings_=[]),
    "targets of classes with fewer encodings": lambda: changed("targets of classes", encodings_=[np.zeros(4)]),
    "an encoding beyond the categories": lambda: changed("targets", encodings_=[np.zeros(10**6)]),
    "a kernel that compares no rows": lambda: changed("vectors of rows", kernel=np.add),
    "a kernel of fewer rows": lambda: changed("vectors of rows", _BaseLibSVM__Xfit=np.zeros((1, 3))),
    "a kernel with rows of its own": lambda: changed(
        "vectors of rows", kernel=functools.partial(linear_kernel, np.zeros((1, 3)))
    ),
    "lengths of centres that nobody uses": lambda: changed(
        "clusters of a tree",
        _subcluster_norms=np.zeros(1),
        cluster_centers_=np.zeros((1, 3)),
        subcluster_centers_=np.zeros((5000, 3)),
    ),
    "thousands of threads": lambda: changed("clusters", _n_threads=30_000),
    "a group beyond the columns": lambda: changed(
        "encoder of rare ones", _default_to_infrequent_mappings=[np.array([10**6] * 4)]
    ),
    "a rare one without a group": lambda: changed(
        "encoder of rare ones",
        _default_to_infrequent_mappings=[None],
        _infrequent_indices=[np.array([10**6])],
        _n_features_outs=[4],
    ),
    "a dropped one before the first": lambda: changed(
        "encoder", _drop_idx_after_grouping=objects(-5), _n_features_outs=[3]
    ),
    "a word beyond the columns": lambda: changed("words", vocabulary_={"word": 10**7}),
    "a word before the columns": lambda: changed("weighed words", vocabulary_={"a": -1, "b": 0}),
    "a word at no number": lambda: changed("words", vocabulary_={"word": np.zeros((), np.int64)}),
    "words in no dictionary": lambda: changed("words", vocabulary_=[0]),
    "a feature beyond the columns": lambda: changed("dictionaries", vocabulary_={"a": 10**7}),
    "counts of other vectors": lambda: changed("vectors", _n_support=np.array([10**6, -(10**6), 60], np.int32)),
    "more support than vectors": lambda: changed("vectors", support_=np.zeros(10**6, np.int32)),
    "fewer weights than vectors": lambda: changed("vectors", _dual_coef_=np.zeros((2, 1))),
    "fewer intercepts than pairs": lambda: changed("vectors", _intercept_=np.zeros(1)),
    "fewer slopes than pairs": lambda: changed("vectors", _probA=np.zeros(1)),
    "slopes without intercepts": lambda: changed("vectors", _probA=np.zeros(3)),
    "no slopes for probabilities": lambda: changed("sparse vectors", _effective_probability=True),
    "more classes than one": lambda: changed("vectors of one class", _n_support=np.zeros(9, np.int32)),
    "support beyond the kernel": lambda: changed("vectors of a kernel", support_=np.full(60, 10**9, np.int32)),
    "dense vectors for sparse rows": lambda: changed("vectors", _sparse=True),
    "a kernel of sparse vectors": lambda: changed("sparse vectors", kernel="precomputed"),
    "wide stages": lambda: stages(3000),
    "wide stages from zero": lambda: stages(3000, init_="zero"),
    "stages from fewer classes": lambda: stages(3, init_=first(class_prior_=np.ones(1))),
    "stages from several outputs": lambda: stages(3, init_=first(n_outputs_=0)),
    "stages from a regression": lambda: stages(1, init_=LinearRegression()),
    "stages from no numbers": lambda: stages(1, init_=regression(n_outputs_=0)),
    "stages of numbers from classes": lambda: changed(
        "stages of numbers",
        estimators_=np.repeat(SOUND["stages of numbers"]().estimators_, 3, axis=1),
        init_=first(),
        _loss=loss(is_multiclass=True),
    ),
    "stages of classes from numbers": lambda: stages(1, init_=regression()),
    "stages from a matrix of classes": lambda: stages(3, init_=first(class_prior_=np.ones((3, 1)))),
    "stages from zero of no number": lambda: stages(
        3, init_="zero", n_trees_per_iteration_=np.ma.masked_array(1, True)
    ),
    "stages in no array": lambda: changed("stages of numbers", estimators_=[SOUND["trees"]().estimators_]),
    "no tree in a stage": lambda: with_tree("stages of numbers", 1, no_tree),
    "no tree in a forest": lambda: with_tree("trees", 1, no_tree),
    "a wide tree in a stage": lambda: with_tree(
        "stages of numbers", 1, lambda tree: changed_part(tree, tree_=wide_tree(tree))
    ),
    "a wide tree in a forest": lambda: with_tree("trees", 1, widened),
    "a stage without values": lambda: with_tree("stages of numbers", 1, without_values),
    "trees of an unknown width": lambda: changed("trees", n_features_in_=np.ma.masked_array(3, True)),
    "stages of one class": lambda: stages(3, _loss=loss(is_multiclass=False)),
    "stages behind another link": lambda: stages(3, _loss=loss(link=Bunch(link=np.diff))),
    "bins of fewer features": lambda: changed("histograms", _bin_mapper=Bunch(is_categorical_=np.zeros(4))),
    "limits of fewer bins": lambda: mapped(bin_thresholds_=[np.ones(1)]),
    "limits of fewer bins before a tree": lambda: with_state(mapped(bin_thresholds_=[np.ones(1)]), _predictors=[]),
    "limits in an array": lambda: mapped(bin_thresholds_=np.ones((4, 9))),
    "limits of whole numbers": lambda: mapped(bin_thresholds_=[np.ones(9, int)] * 4),
    "fewer counts than bins": lambda: mapped(n_bins_non_missing_=np.ones(1, np.uint32)),
    "fewer kinds than bins": lambda: with_state(mapped(is_categorical_=np.zeros(1, np.uint8)), _predictors=[]),
    "bins in a list": lambda: changed("histograms", _bin_mapper=[SOUND["histograms"]()._bin_mapper]),
    "bins that are not fitted": lambda: changed("histograms", _bin_mapper=_BinMapper(), _predictors=[]),
    "another encoder in the place of bins": lambda: changed("histograms", _bin_mapper=KBinsDiscretizer()),
    "fewer features than links": lambda: changed("histograms", _n_features=0),
    "more neighbours than columns": lambda: changed("neighbours", n_samples_fit_=7),
    "more rows than columns": lambda: changed("weighed neighbours", n_samples_fit_=7, _fit_X=ROWS[:7]),
    "narrow neighbours": lambda: changed("classes of neighbours", _fit_X=ROWS[:, :1].copy()),
    "neighbours of a class beyond": lambda: changed("classes of neighbours", _y=np.full(60, 1 << 40)),
    "fewer classes than neighbours": lambda: changed("classes of a radius", _y=np.zeros(1, np.int64)),
    "fewer classes than an unknown number": lambda: changed(
        "classes of neighbours", n_samples_fit_=None, _y=np.zeros(1, np.int64)
    ),
    **{
        f"neighbours of a class beyond without {name}": lambda name=name: without(  # type: ignore[misc]
            changed("classes of neighbours", metric="manhattan", _y=np.full(60, 1 << 30)), name
        )
        for name in ("n_samples_fit_", "_fit_X", "n_features_in_")
    },
    "neighbours of a class beyond in several outputs": lambda: changed(
        "classes of neighbours", _y=np.full(60, 1 << 30), outputs_2d_=[]
    ),
    "a repeated place in a chain": lambda: changed("a chain", order_=np.zeros(3, np.int64)),
    "a repeated place in a list": lambda: changed("a chain", order_=[0, 0, 2]),
    "fewer places than a chain": lambda: changed("a chain", order_=np.arange(2)),
    "more places than a chain": lambda: changed("a chain", order_=np.full(300, -1, np.int8)),
    "places of a chain from its end": lambda: changed("a chain", order_=np.arange(-3, 0)),
    "places of a chain in a matrix": lambda: changed("a chain", order_=np.array([[0, 1, 2]])),
    "places of a chain behind a mask": lambda: changed("a chain", order_=np.ma.masked_array(np.zeros(3, int), True)),
    "places that are no whole numbers": lambda: changed("a chain", order_=[0.0, 1.0, 2.0]),
    "places in a tuple": lambda: changed("a chain", order_=(0, 1, 2)),
    "fewer estimators than places": lambda: changed("a chain", estimators_=[]),
    **{
        f"{kind} components without a precision": lambda kind=kind: changed(  # type: ignore[misc]
            f"{kind} components", precisions_cholesky_=SOUND[f"{kind} components"]().precisions_cholesky_[:1]
        )
        for kind in ("full", "tied", "diag", "spherical")
    },
    "components of a prior without a precision": lambda: changed(
        "components of a prior", precisions_cholesky_=np.ones((1, 3, 3))
    ),
    "means of another width": lambda: changed("full components", means_=np.ones((2, 1))),
    "an array of widths": lambda: changed("encoder", _n_features_outs=np.array([4])),
    "a width that is no whole number": lambda: changed("encoder", _n_features_outs=[4.0]),
    "an array of categories": lambda: changed("encoder", categories_=np.array([[1, 2, 3, 4]])),
    "labels beyond": lambda: changed("labels", _cached_dict={1.0: 10**9, 2.0: 0}),
    "labels by an array": lambda: changed("labels", _cached_dict=np.arange(3)),
    "labels that are no numbers": lambda: changed("labels", _cached_dict={1.0: 0.5, 2.0: 0}),
    "repeated labels": lambda: changed("labels", classes_=np.zeros(3)),
    "repeated labels beside a dictionary": lambda: changed("labels that were asked for", classes_=np.zeros(3)),
    "repeated labels behind a mask": lambda: changed("labels", classes_=np.ma.masked_array(np.zeros(3), True)),
    "labels in a list": lambda: changed("labels", classes_=[1.0, 1.0]),
    "labels of labels": lambda: changed("labels", classes_=objects((1.0, (2.0,)))),
    "classes around a gap": lambda: changed("classes", classes_=objects(3.0, np.nan, 1.0, 1.0, 1.0, 1.0, 2.0)),
    "repeated classes": lambda: changed("classes", classes_=np.zeros(3)),
    "classes with half a gap": lambda: changed("classes", classes_=HALF_A_GAP),
    "classes in a list": lambda: changed("classes", classes_=[1.0, 1.0]),
    "columns that no product fills": lambda: changed("products", _n_out_full=10**6),
    "more columns than products": lambda: changed("products of several features", n_output_features_=10**6),
    "a metric of foreign numbers": lambda: changed("weighed neighbours", effective_metric_=narrow_metric()),
    "lengths of fewer neighbours": lambda: changed(
        "neighbours", effective_metric_params_={"Y_norm_squared": np.zeros(1)}
    ),
    **{
        f"{parameter} of fewer features in {name} of {kind}": functools.partial(
            changed, kind, **{name: {parameter: np.ones((1, 1) if parameter == "VI" else 1)}}
        )
        for parameter in ("V", "VI", "w")
        for name in ("metric_params", "effective_metric_params_")
        for kind in ("neighbours of weighed features", "classes of a radius", "outliers")
    },
    "weights behind a mask": lambda: changed(
        "neighbours of weighed features", effective_metric_params_={"VI": np.ma.masked_array(np.eye(3), True)}
    ),
    "one weight in a list": lambda: changed("neighbours of weighed features", effective_metric_params_={"VI": [1.0]}),
    "weights of fewer features in a manifold": narrow_manifold,
    "an inverse of fewer features": lambda: changed("an envelope", precision_=np.ones((1, 1))),
    "a covariance of fewer features": lambda: changed("an envelope without its inverse", covariance_=np.ones((1, 1))),
    "an envelope of no width": lambda: without(changed("an envelope", precision_=np.ones((1, 1))), "n_features_in_"),
    "a wide tree of an isolation": lambda: with_tree("isolation", 1, widened),
    "a wide tree of two features": lambda: with_tree("isolation by two features", 1, widened),
    "fewer features of an isolation": lambda: changed(
        "isolation by two features", estimators_features_=[np.zeros(1, np.int64)] * 2
    ),
    "rows of no width": lambda: changed("isolation", n_features_in_=1, _max_features=1),
    "narrow clusters": lambda: changed("clusters", cluster_centers_=np.zeros((3, 1))),
    "no clusters": lambda: changed("clusters", cluster_centers_=np.zeros((0, 3))),
    "narrow halves": lambda: narrow_half(lambda tree: changed_part(tree, center=np.zeros(1))),
    "narrow halves in no tree": lambda: narrow_half(lambda tree: Bunch(**{**vars(tree), "center": np.zeros(1)})),
    "clusters of fewer lengths": lambda: changed("clusters of a tree", _subcluster_norms=np.zeros(1)),
    "narrow rows of histograms": lambda: changed("histograms", n_features_in_=1, _preprocessor=None),
    "rows of histograms that are fitted": lambda: changed("histograms", _in_fit=True),
    "histograms by another encoder": lambda: changed("histograms", _preprocessor=FunctionTransformer(np.sum)),
    "histograms of fewer columns": lambda: encoded(transformers_=[]),
    "histograms of weighed columns": lambda: encoded(transformer_weights={"encoder": 1.0}),
    "histograms of other indices": lambda: encoded(_transformer_to_input_indices={"encoder": [0], "numerical": [1]}),
    "small sets of categories": small_sets,
    "hidden counts of vectors": lambda: changed(
        "vectors", _n_support=np.ma.masked_array(np.array([60, 10**6, 0], np.int32), [False, True, False])
    ),
    "more neighbours than features": lambda: changed("neighbours", metric="precomputed"),
    "more predictors than memory": lambda: changed("histograms", _predictors=[range(10**12)]),
    "many processes": lambda: FunctionTransformer(mutual_info_classif, kw_args={"y": CLASSES, "n_jobs": 300}),
    "many processes of a partial": lambda: FunctionTransformer(functools.partial(mutual_info_classif, n_jobs=300)),
    "processes in a series": lambda: FunctionTransformer(
        mutual_info_classif, kw_args=pd.Series([300], pd.Index(["n_jobs"], dtype=object), dtype=object)
    ),
    **{f"{n} columns of hashes": functools.partial(changed, "hashes", n_features=n) for n in (0, -5, 2**31, 1.5)},
    "no columns of words": lambda: changed("hashes of words", n_features=0),
    "hashes of any number of columns": lambda: without(SOUND["hashes"](), "n_features"),
    "no neighbours": no_neighbours,
    "leaves of no rows": lambda: leaves(0),
    "an output": lambda: FunctionTransformer(np.positive, kw_args={"out": np.zeros(3)}),
    "an output in a tuple": lambda: FunctionTransformer(np.positive, kw_args={"out": (np.zeros(3),)}),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_beyond_the_arrays_are_refused(name: str) -> None:
    with pytest.raises((ArtifactInvalid, AttributeError)):
        unpickle(dumped(make_pipeline(POSITIONS[name]())))


@pytest.mark.parametrize(
    "name",
    [
        *("fewer columns than categories", "a word beyond the columns", "a feature beyond the columns"),
        *("an output", "counts of other vectors", "more neighbours than columns"),
        *("targets without encodings", "a kernel that compares no rows", "thousands of threads"),
        *("no columns of words", "no neighbours", "leaves of no rows"),
        *(
            "a repeated place in a chain",
            "full components without a precision",
            "limits of fewer bins",
            "an array of widths",
            "labels beyond",
            "repeated labels",
            "half a gap in encoder",
            "an inverse of fewer features",
            "VI of fewer features in effective_metric_params_ of neighbours of weighed features",
            "neighbours of a class beyond without n_samples_fit_",
        ),
    ],
)
def test_positions_in_skops_artifacts_are_checked_too(name: str) -> None:
    content = skops.io.dumps(make_pipeline(POSITIONS[name]()))

    with pytest.raises(ArtifactInvalid):
        load_skops(content, skops.io.get_untrusted_types(data=content))


@pytest.mark.parametrize("hidden", [False, True])
def test_parts_behind_a_mask_are_checked(hidden: bool) -> None:
    parts = np.ma.masked_array(objects(POSITIONS["a word beyond the columns"]()), [hidden])

    with pytest.raises(ArtifactInvalid, match="out of its arrays"):
        unpickle(dumped([parts]))


@pytest.mark.parametrize(
    ("form", "changes"),
    [
        ("csr", {"indices": np.array([0, 10**9, 2, 3], np.int32)}),
        ("csc", {"indices": np.array([0, -1, 2, 3], np.int32)}),
        ("csr", {"indptr": np.array([0, 3, 1, 4, 4], np.int32)}),
        ("csr", {"indptr": np.array([0, 1, 4], np.int32)}),
        ("csr", {"indptr": np.array([0, 10**9, 0, 0, 0], np.int32)}),
        ("bsr", {"indptr": np.array([0, 10**9, 0, 0, 0], np.int32)}),
        ("bsr", {"indices": np.array([10**9], np.int32)}),
        ("coo", {"coords": (np.array([10**9] * 4), np.arange(4))}),
        ("dia", {"offsets": np.arange(9)}),
        *(("dia", {"offsets": np.array([place], np.int32)}) for place in (4, -4, 2**31 - 1, -(2**31))),
        ("csr", {"_shape": (4, 1)}),
        ("csr", {"data": objects(1, 2, 3, 4)}),
        ("csr", {"data": LinearRegression()}),
        ("csr", {"nnz": 10**9}),
    ],
)
def test_the_positions_of_a_sparse_matrix_are_inside(form: str, changes: dict[str, Any]) -> None:
    matrix = getattr(scipy.sparse, f"{form}_array")(np.eye(4))
    vars(matrix).update(changes)

    with pytest.raises((ArtifactInvalid, ValueError)):
        unpickle(dumped(matrix))


@pytest.mark.parametrize("shape", [(3, 2), (2, 3)])
def test_the_blocks_of_a_sparse_matrix_fill_it(shape: tuple[int, int]) -> None:
    matrix = scipy.sparse.bsr_array((np.ones((1, 2, 2)), np.array([0]), np.array([0, 1])), shape=shape)

    with pytest.raises(ArtifactInvalid, match="whole blocks"):
        unpickle(dumped(matrix))


@pytest.mark.parametrize("changes", [{"_c": np.zeros((1, 7))}, {"k": -7}, {"k": 10**9}, {"_t": np.zeros(11)}])
def test_the_parts_of_a_spline_agree(changes: dict[str, Any]) -> None:
    splines = SOUND["splines"]()
    vars(splines.bsplines_[0]).update(changes)

    with pytest.raises(ValueError, match=r"[Kk]not|order|knots"):
        unpickle(dumped(splines))

    content = skops.io.dumps(splines)
    with pytest.raises(ValueError, match=r"[Kk]not|order|knots"):
        load_skops(content, skops.io.get_untrusted_types(data=content))


def test_splines_of_skops_artifacts_are_splines() -> None:
    sound, other = SOUND["splines"](), changed("splines", bsplines_=[np.log1p])
    content = skops.io.dumps(sound)

    read, _ = load_skops(content, skops.io.get_untrusted_types(data=content))

    assert (read.transform(ROWS) == sound.transform(ROWS)).all()
    with pytest.raises(ArtifactInvalid, match="in the place of a spline"):
        load_skops(skops.io.dumps(other), ())


@pytest.mark.parametrize("held", [lambda matrix: [matrix], lambda matrix: {"a": matrix}, objects])
def test_sparse_matrices_in_containers_of_either_format_are_checked(held: Callable[[Any], Any]) -> None:
    matrix = scipy.sparse.csr_array(np.eye(4))
    matrix.indices = np.array([0, 10**9, 2, 3], np.int32)
    estimator = with_state(LogisticRegression(), a=held(matrix))
    content = skops.io.dumps(estimator)

    with pytest.raises(ValueError, match="indices"):
        unpickle(dumped(estimator))
    with pytest.raises(ValueError, match="indices"):
        load_skops(content, skops.io.get_untrusted_types(data=content))


def test_a_metric_is_as_wide_as_its_rows() -> None:
    tree = BallTree(ROWS, metric="mahalanobis", V=np.eye(3))
    other = BallTree(ROWS[:, :1], metric="mahalanobis", V=np.eye(1)).__getstate__()[11]
    function, args, state = tree.__reduce__()
    parts = (*state[:11], other, *state[12:])

    with pytest.raises(ArtifactInvalid, match="another width"):
        unpickle(dumped(Reduced(function, *args, state=parts)))


def layout(dtype: Any) -> dict[str, Any]:
    fields = [dtype.fields[name] for name in dtype.names]
    return {
        "formats": [each[0] for each in fields],
        "offsets": [each[1] for each in fields],
        "itemsize": dtype.itemsize,
    }


@pytest.mark.parametrize("kind", [BallTree, KDTree])
def test_the_fields_of_nodes_are_where_native_code_reads_them(kind: Any) -> None:
    function, args, state = kind(ROWS).__reduce__()
    rows, order, nodes, *others = state
    native: Any = np.asarray(nodes).dtype
    # The whole numbers, and the number that is none, under each other's names.
    swapped: Any = {**layout(native), "names": ["is_leaf", "radius", "idx_start", "idx_end"]}
    moved = np.asarray(nodes).copy()
    moved["idx_start"] = 1 << 40
    moved["is_leaf"] = 1

    with pytest.raises(ArtifactInvalid, match="nodes of other fields"):
        unpickle(dumped(Reduced(function, *args, state=(rows, order, moved.view(np.dtype(swapped)), *others))))


@pytest.mark.parametrize("kind", [BallTree32, BallTree64, KDTree32, KDTree64])
def test_trees_of_neighbours_that_no_estimator_makes_are_refused(kind: Any) -> None:
    tree = kind(ROWS.astype(np.float32 if kind in (BallTree32, KDTree32) else float))

    with pytest.raises(ArtifactInvalid, match=kind.__name__):
        unpickle(dumped(tree))


@pytest.mark.parametrize("kind", [BallTree32, BallTree64, KDTree32, KDTree64])
def test_trees_that_nobody_checks_are_in_no_estimator(kind: Any) -> None:
    tree = kind(ROWS.astype(np.float32 if kind in (BallTree32, KDTree32) else float))

    with pytest.raises(ArtifactInvalid, match=f"a {kind.__name__} in the place of .*_tree"):
        check_estimator(changed("weighed neighbours", _tree=tree))


@pytest.mark.parametrize("kind", [BallTree, KDTree])
@pytest.mark.parametrize("metric", [None, DistanceMetric.get_metric("euclidean", dtype=np.float32)])
def test_a_tree_of_neighbours_has_a_metric(kind: Any, metric: Any) -> None:
    function, args, state = kind(ROWS).__reduce__()
    parts = (*state[:11], metric, *state[12:])

    with pytest.raises(ArtifactInvalid, match="no metric"):
        unpickle(dumped(Reduced(function, *args, state=parts)))


def test_a_tree_has_as_many_nodes_as_it_says() -> None:
    function, args, state = DecisionTreeRegressor().fit(ROWS, CLASSES).tree_.__reduce__()

    with pytest.raises(ArtifactInvalid, match="number of nodes"):
        unpickle(dumped(Reduced(function, *args, state={**state, "node_count": 10**9})))


@pytest.mark.parametrize("pos", [624, 10**9])
def test_the_position_of_a_random_state_in_a_skops_artifact_is_inside(pos: int) -> None:
    random = np.random.RandomState(0)
    estimator = DummyClassifier(strategy="stratified", random_state=random).fit(ROWS, CLASSES)
    state: Any = random.get_state(legacy=False)
    state["state"]["pos"] = pos
    random.set_state(state)
    content = skops.io.dumps(estimator)

    if pos == 624:
        load_skops(content, [])
        return
    with pytest.raises(ArtifactInvalid, match="out of its arrays"):
        load_skops(content, [])


@pytest.mark.parametrize("name", ["nodes", "values"])
def test_a_mask_hides_no_part_of_a_tree(name: str) -> None:
    function, args, state = DecisionTreeRegressor().fit(ROWS, CLASSES).tree_.__reduce__()
    hidden = np.ma.masked_array(state[name], np.ones_like(state[name], bool) if name == "values" else True)

    with pytest.raises(ArtifactInvalid, match="masked array"):
        unpickle(dumped(Reduced(function, *args, state={**state, name: hidden})))


@pytest.mark.parametrize("name", ["_impl", "n_support_", "predict"])
def test_an_attribute_takes_the_place_of_nothing_of_its_class(name: str) -> None:
    with pytest.raises(ArtifactInvalid, match="an attribute"):
        unpickle(dumped(with_state(SOUND["vectors"](), **{name: "nu_svc"})))


def several_labels(part: Any = None) -> Any:
    """Return an estimator of one label of three for each row, with another estimator for the first label."""
    estimator = OneVsRestClassifier(LogisticRegression()).fit(ROWS, np.eye(3, dtype=int)[CLASSES])
    if part is not None:
        estimator.estimators_[0] = part
    return estimator


SHAPE = list(inspect.signature(np.reshape).parameters)[1]
"""The argument of `np.reshape` that NumPy 2.0 calls `newshape`."""

PARTS: dict[str, Callable[[], Any]] = {
    "more numbers for a row": lambda: with_state(
        several_labels().estimators_[0], coef_=np.zeros((2, 3)), intercept_=np.ones(2)
    ),
    "more rows": lambda: make_pipeline(
        FunctionTransformer(np.reshape, kw_args={SHAPE: (-1, 1)}),
        LinearRegression().fit(ROWS[:, :1], np.ones(60)),
    ),
}
"""Estimators that answer more than one number for a row."""


@pytest.mark.parametrize("name", PARTS)
def test_answers_of_other_lengths_lead_nowhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabelBinarizer, "inverse_transform", lambda *_: pytest.fail("scikit-learn decodes them"))
    read, _ = unpickle(dumped([several_labels(PARTS[name]())]))

    with pytest.raises(ValueError, match=r"ind(ex|ices)"):
        read[0].predict(ROWS[:1])


def test_answers_of_other_lengths_lead_nowhere_in_skops_artifacts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabelBinarizer, "inverse_transform", lambda *_: pytest.fail("scikit-learn decodes them"))
    read, _ = load_skops(skops.io.dumps(several_labels(PARTS["more numbers for a row"]())), [])

    with pytest.raises(ValueError, match=r"ind(ex|ices)"):
        read.predict(ROWS[:1])


def test_several_labels_are_predicted_as_before() -> None:
    estimator = several_labels()

    for read, _ in (unpickle(dumped(estimator)), load_skops(skops.io.dumps(estimator), [])):
        assert np.array_equal(read.predict(ROWS), estimator.predict(ROWS))


def test_labels_are_encoded_by_nothing_but_scikit_learn() -> None:
    with pytest.raises(ArtifactInvalid, match="another encoder"):
        unpickle(dumped(with_state(several_labels(), label_binarizer_=FunctionTransformer())))
