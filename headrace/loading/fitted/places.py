"""Places in estimators where scikit-learn puts parts of its own: trees, mappers of bins, losses and the like.

Such a part takes what it gets for what its owner prepares and checks: the width of rows, the lengths of its own arrays.
Anywhere else, such as in a pipeline that asks it as a step, native code would read beyond these arrays.
"""

import functools
import sys
from importlib.machinery import ExtensionFileLoader
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
from scipy.interpolate import BSpline
from sklearn import calibration
from sklearn._loss._loss import CyHalfMultinomialLoss, CyLossFunction
from sklearn._loss.link import BaseLink, Interval
from sklearn._loss.loss import BaseLoss
from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier, _SigmoidCalibration
from sklearn.cluster import Birch, BisectingKMeans
from sklearn.cluster._birch import _CFNode, _CFSubcluster
from sklearn.cluster._bisect_k_means import _BisectingTree
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process._gpc import _BinaryGaussianProcessClassifierLaplace
from sklearn.impute._iterative import IterativeImputer, _ImputerTriplet
from sklearn.linear_model._glm.glm import _GeneralizedLinearRegressor
from sklearn.linear_model._stochastic_gradient import BaseSGD
from sklearn.metrics import DistanceMetric
from sklearn.metrics._dist_metrics import DistanceMetric32
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier, _ConstantPredictor
from sklearn.neighbors import BallTree, KDTree, KernelDensity
from sklearn.neighbors._base import NeighborsBase
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import BaseOptimizer
from sklearn.preprocessing import FunctionTransformer, SplineTransformer
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from headrace.errors import ArtifactInvalid
from headrace.loading.names import TRUE_MODULES
from headrace.loading.parts import contents
from headrace.loading.tokens import SCALARS, is_library

# scikit-learn 1.7 has none.
_TemperatureScaling: type = getattr(calibration, "_TemperatureScaling", _SigmoidCalibration)

_PAIRS = (OneVsOneClassifier, OneVsRestClassifier)

_ARGUMENTS = {FunctionTransformer: "inv_kw_args kw_args"}
"""Arguments for functions of the user's own, among which public classes may be."""

PLACES: dict[type, dict[type, str]] = {
    BallTree: {NeighborsBase: "_tree", KernelDensity: "tree_", **_ARGUMENTS},
    BaseLink: {BaseLoss: "link"},
    BaseLoss: {
        BaseGradientBoosting: "_loss",
        BaseHistGradientBoosting: "_loss loss",
        _GeneralizedLinearRegressor: "_base_loss",
    },
    BaseOptimizer: {BaseMultilayerPerceptron: "_optimizer"},
    BSpline: {SplineTransformer: "bsplines_", **_ARGUMENTS},
    CyHalfMultinomialLoss: {BaseLoss: "closs"},
    CyLossFunction: {BaseLoss: "closs", BaseSGD: "_loss_function_"},
    Interval: {BaseLink: "interval_y_pred", BaseLoss: "interval_y_pred interval_y_true"},
    KDTree: {NeighborsBase: "_tree", KernelDensity: "tree_", **_ARGUMENTS},
    Tree: {BaseDecisionTree: "tree_"},
    TreePredictor: {BaseHistGradientBoosting: "_predictors"},
    _BinMapper: {BaseHistGradientBoosting: "_bin_mapper"},
    _BinaryGaussianProcessClassifierLaplace: {
        GaussianProcessClassifier: "base_estimator_",
        **dict.fromkeys(_PAIRS, "estimator estimators_"),
    },
    _BisectingTree: {BisectingKMeans: "_bisecting_tree", _BisectingTree: "left right"},
    _CalibratedClassifier: {CalibratedClassifierCV: "calibrated_classifiers_"},
    _CFNode: {Birch: "dummy_leaf_ root_", _CFNode: "next_leaf_ prev_leaf_", _CFSubcluster: "child_"},
    _CFSubcluster: {_CFNode: "subclusters_"},
    _ConstantPredictor: dict.fromkeys((*_PAIRS, OutputCodeClassifier), "estimators_"),
    _ImputerTriplet: {IterativeImputer: "imputation_sequence_"},
    _SigmoidCalibration: {_CalibratedClassifier: "calibrators"},
    _TemperatureScaling: {_CalibratedClassifier: "calibrators"},
}
"""Class of a part -> the classes of its owners, each with the attributes that may hold the part, or a container of it.

scikit-learn stores no others of its private estimators: `_RidgeGCV`, `_IdentityClassifier` and `_IdentityRegressor`
are gone when their owners are fitted.
"""

_PUBLIC = frozenset([BSpline, BallTree, KDTree])
"""Classes of PLACES that objects of the user's own may hold where they like."""

_ANYWHERE = (DistanceMetric, DistanceMetric32)
"""Cython classes whose objects are parameters."""

_PRIVATE_ANYWHERE = frozenset(["sklearn.metrics._scorer", "sklearn.model_selection._split"])
"""Modules whose objects no prediction asks, so that their private classes are no danger anywhere."""

_BARE = frozenset([dict, frozenset, list, np.ndarray, set, tuple])
"""Classes whose objects have no attributes of their own."""

_NO_OWNERS = (FunctionType, ModuleType, type)
"""Classes of objects with attributes that are no part of an artifact."""

_NONE: frozenset[type] = frozenset()


def check_places(estimator: Any) -> None:
    """Check that the parts of scikit-learn's own in an artifact are where scikit-learn puts them.

    Raises:
        ArtifactInvalid: if one of PLACES, or another private class, is in another place.
    """
    pending: list[tuple[Any, type | None, Any]] = [(estimator, None, "")]
    # A container is walked once for all places that admit the same, and an object once.
    seen: dict[tuple[int, frozenset[type] | None], Any] = {}
    while pending:
        value, owner, name = pending.pop()
        kind: Any = type(value)
        if _is_plain(kind):
            continue
        admitted = _NONE if owner is None else _admitted(owner, name)
        if (restricted := _restricted(kind)) is not None and restricted not in admitted:
            place = "as a model" if owner is None else f"in the place of {owner.__qualname__}.{name}"
            raise ArtifactInvalid(f"it has a {kind.__qualname__} {place}, where scikit-learn puts none")
        held = contents(value)
        if held is not None and (id(value), admitted) not in seen:
            seen[id(value), admitted] = value
            if not all(map(_is_plain, set(map(type, held)))):
                pending.extend((each, owner, name) for each in held)
        if kind in _BARE or (id(value), None) in seen:
            continue
        if held_by := attributes(value):
            seen[id(value), None] = value
            pending.extend((each, kind, name) for name, each in held_by.items() if type(each) not in SCALARS)


@functools.lru_cache(maxsize=10_000)
def _is_plain(kind: type) -> bool:
    return kind in SCALARS or issubclass(kind, np.generic)


def attributes(value: Any) -> dict[Any, Any]:
    """Return what an object holds as attributes, also in slots of classes that are no library's."""
    if isinstance(value, _NO_OWNERS):
        return {}
    if isinstance(value, functools.partial):
        return {"args": value.args, "func": value.func, "keywords": value.keywords, **vars(value)}
    if isinstance(value, MethodType):
        return {"__self__": value.__self__}
    found = getattr(value, "__dict__", None)
    own: dict[Any, Any] = found if type(found) is dict else {}
    kind: Any = type(value)
    slots = _slots(kind)
    return {**own, **{name: getattr(value, name) for name in slots if hasattr(value, name)}} if slots else own


@functools.lru_cache(maxsize=10_000)
def _slots(kind: type) -> tuple[str, ...]:
    if is_library(str(kind.__module__)):
        return ()
    members = [member for base in kind.__mro__ for member in vars(base).items()]
    return tuple(name for name, member in members if isinstance(member, MemberDescriptorType))


@functools.lru_cache(maxsize=10_000)
def _restricted(kind: type) -> type | None:
    """Return the class under which objects of a class have their places; None if they may be anywhere."""
    listed = next((base for base in kind.__mro__ if base in PLACES), None)
    if listed is not None:
        return listed
    module = TRUE_MODULES.get(str(kind.__module__), str(kind.__module__))
    if not module.startswith("sklearn.") or issubclass(kind, _ANYWHERE) or module in _PRIVATE_ANYWHERE:
        return None
    loader = getattr(getattr(sys.modules.get(module), "__spec__", None), "loader", None)
    return kind if kind.__name__.startswith("_") or isinstance(loader, ExtensionFileLoader) else None


@functools.lru_cache(maxsize=10_000)
def _admitted(owner: type, name: Any) -> frozenset[type]:
    """Return the classes of PLACES whose objects an attribute of an owner may hold."""
    public = _NONE if is_library(str(owner.__module__)) else _PUBLIC
    return public | {
        kind
        for kind, owners in PLACES.items()
        for each, names in owners.items()
        if issubclass(owner, each) and name in names.split()
    }
