"""Parts of scikit-learn's own in places where scikit-learn puts none."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn._loss import HalfSquaredError
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, BisectingKMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute._iterative import IterativeImputer
from sklearn.linear_model import LinearRegression, PoissonRegressor, SGDClassifier
from sklearn.linear_model._ridge import _IdentityRegressor, _RidgeGCV
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import BallTree, KDTree, KernelDensity, KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from headrace.errors import ArtifactInvalid
from headrace.loading.archive import load_skops
from headrace.loading.fitted.places import check_places
from headrace.loading.unpickler import unpickle
from tests.unit.headrace.loading.pickles import dumped, objects, with_state

# Two steps of a network or imputer are no fit.
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = np.random.default_rng(0).random((60, 3))
CLASSES = np.arange(60) % 3
GAPS = np.where(ROWS < 0.1, np.nan, ROWS)


class Holder:
    """An object of a user's own, which is no estimator."""

    def __init__(self, held: Any) -> None:
        self.held = held


class Slotted:
    """An object of a user's own without a dictionary of attributes."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


OWNERS: dict[str, Callable[[], Any]] = {
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=1).fit(ROWS, CLASSES),
    "histograms of a loss": lambda: HistGradientBoostingRegressor(loss=HalfSquaredError(), max_iter=1).fit(
        ROWS, CLASSES
    ),
    "stages": lambda: GradientBoostingClassifier(n_estimators=1).fit(ROWS, CLASSES),
    "tree": lambda: DecisionTreeClassifier(max_depth=2).fit(ROWS, CLASSES),
    "neighbours": lambda: KNeighborsClassifier(algorithm="kd_tree").fit(ROWS, CLASSES),
    "neighbours in balls": lambda: KNeighborsClassifier(algorithm="ball_tree").fit(ROWS, CLASSES),
    "density": lambda: KernelDensity().fit(ROWS),
    "clusters": lambda: Birch(threshold=0.01, branching_factor=3, n_clusters=None).fit(ROWS),
    "halves": lambda: BisectingKMeans(3).fit(ROWS),
    "splines": lambda: SplineTransformer().fit(ROWS),
    "counts": lambda: PoissonRegressor().fit(ROWS, CLASSES),
    "descent": lambda: SGDClassifier().fit(ROWS, CLASSES),
    "logistic descent": lambda: SGDClassifier(loss="log_loss").fit(ROWS, CLASSES),
    "calibration": lambda: CalibratedClassifierCV(DecisionTreeClassifier()).fit(ROWS, CLASSES),
    "network": lambda: MLPClassifier((2,), max_iter=1).fit(ROWS, CLASSES),
    "process": lambda: GaussianProcessClassifier().fit(ROWS, CLASSES > 0),
    "processes": lambda: GaussianProcessClassifier().fit(ROWS, CLASSES),
    "pairs of processes": lambda: GaussianProcessClassifier(multi_class="one_vs_one").fit(ROWS, CLASSES),
    "constants": lambda: OneVsRestClassifier(LinearRegression()).fit(ROWS, np.array([[1, 0], [1, 1]] * 30)),
    "imputer": lambda: IterativeImputer(max_iter=1).fit(GAPS),
}
"""Estimators with parts in their places."""


@functools.cache
def owner(name: str) -> Any:
    return OWNERS[name]()


PARTS: dict[str, Callable[[], Any]] = {
    "_BinMapper": lambda: owner("histograms")._bin_mapper,
    "TreePredictor": lambda: owner("histograms")._predictors[0][0],
    "HalfMultinomialLoss": lambda: owner("histograms")._loss,
    "CyHalfMultinomialLoss": lambda: owner("histograms")._loss.closs,
    "MultinomialLogit": lambda: owner("histograms")._loss.link,
    "Interval": lambda: owner("histograms")._loss.interval_y_pred,
    "HalfPoissonLoss": lambda: owner("counts")._base_loss,
    "CyHalfPoissonLoss": lambda: owner("counts")._base_loss.closs,
    "Hinge": lambda: owner("descent")._loss_function_,
    "Tree": lambda: owner("tree").tree_,
    "KDTree": lambda: KDTree(ROWS),
    "BallTree": lambda: BallTree(ROWS),
    "_CFNode": lambda: owner("clusters").root_,
    "_CFSubcluster": lambda: owner("clusters").root_.subclusters_[0],
    "_BisectingTree": lambda: owner("halves")._bisecting_tree,
    "BSpline": lambda: owner("splines").bsplines_[0],
    "_CalibratedClassifier": lambda: owner("calibration").calibrated_classifiers_[0],
    "_SigmoidCalibration": lambda: owner("calibration").calibrated_classifiers_[0].calibrators[0],
    "AdamOptimizer": lambda: owner("network")._optimizer,
    "_BinaryGaussianProcessClassifierLaplace": lambda: owner("process").base_estimator_,
    "_ConstantPredictor": lambda: owner("constants").estimators_[0],
    "_ImputerTriplet": lambda: owner("imputer").imputation_sequence_[0],
    "_IdentityRegressor": _IdentityRegressor,
    "_RidgeGCV": _RidgeGCV,
}


@functools.cache
def part(name: str) -> Any:
    return PARTS[name]()


UNWRITTEN = {"_CFNode", "_CFSubcluster"}
"""Parts that hold others which hold them in turn: skops writes none of them."""

PLACES: dict[str, Callable[[Any], Any]] = {
    "the model": lambda held: held,
    "a list": lambda held: [held],
    "a step": lambda held: make_pipeline(held, LinearRegression()),
    "a transformer": lambda held: FeatureUnion([("a", held)]),
    "one of several columns": lambda held: with_state(ColumnTransformer([]), transformers_=[("a", held, [0])]),
    "an estimator of several": lambda held: with_state(VotingRegressor([]), estimators_=[held]),
    "the best estimator": lambda held: with_state(GridSearchCV(None, {}), best_estimator_=held),
    "a regressor": lambda held: with_state(TransformedTargetRegressor(), regressor_=held),
    "a frozen estimator": lambda held: FrozenEstimator(held),
    "an attribute of any name": lambda held: with_state(StandardScaler(), anything=held),
    "a container in a container": lambda held: with_state(StandardScaler(), a={"b": [(objects(1, held),)]}),
    "a part of a part": lambda held: make_pipeline(make_pipeline(with_state(StandardScaler(), a=held))),
    "another part": lambda held: with_state(copy.deepcopy(owner("histograms")), _preprocessor=held),
    "a part of an object": lambda held: with_state(
        copy.deepcopy(owner("histograms")), _loss=with_state(HalfSquaredError(), extra=held)
    ),
}


@pytest.mark.parametrize("name", OWNERS)
def test_parts_in_their_places_are_read(name: str) -> None:
    estimator = owner(name)

    read, _ = unpickle(dumped(make_pipeline(FunctionTransformer(), estimator)))

    assert type(read[1]) is type(estimator)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PARTS)
def test_parts_in_other_places_are_refused(name: str, place: str) -> None:
    artifact = PLACES[place](part(name))

    with pytest.raises(ArtifactInvalid, match=f"it has a {name} (as a model|in the place of .*), where"):
        unpickle(dumped(artifact))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(PARTS.keys() - UNWRITTEN))
def test_parts_in_other_places_of_skops_artifacts_are_refused(name: str, place: str) -> None:
    content = skops.io.dumps(PLACES[place](part(name)))
    trusted = skops.io.get_untrusted_types(data=content)

    with pytest.raises(ArtifactInvalid, match=f"it has a {name} (as a model|in the place of .*), where"):
        load_skops(content, trusted)


@pytest.mark.parametrize("kind", [Holder, Slotted])
@pytest.mark.parametrize("name", sorted(PARTS.keys() - {"BSpline", "BallTree", "KDTree"}))
def test_objects_of_trusted_modules_hold_no_private_parts(name: str, kind: type) -> None:
    content = dumped(make_pipeline(kind(part(name))))

    with pytest.raises(ArtifactInvalid, match=f"it has a {name} in the place of {kind.__name__}.held"):
        unpickle(content, [__name__])


@pytest.mark.parametrize("name", ["BSpline", "BallTree", "KDTree"])
def test_objects_of_trusted_modules_hold_public_parts(name: str) -> None:
    read, _ = unpickle(dumped(Holder([part(name), owner("histograms")])), [__name__])

    assert type(read.held[0]).__name__ == name


def test_a_part_in_its_place_and_in_another_is_refused() -> None:
    estimator = owner("histograms")
    artifact = make_pipeline(estimator, estimator._bin_mapper)

    with pytest.raises(ArtifactInvalid, match=r"a _BinMapper in the place of Pipeline\.steps"):
        unpickle(dumped(artifact))


def test_a_container_that_several_owners_share_is_walked_for_each_of_their_places() -> None:
    shared = [owner("tree").tree_]
    one, other = with_state(DecisionTreeClassifier(), tree_=shared), with_state(StandardScaler(), a=shared)

    for artifact in (make_pipeline(one, other), make_pipeline(other, one)):
        with pytest.raises(ArtifactInvalid, match=r"a Tree in the place of StandardScaler\.a"):
            check_places(artifact)


@pytest.mark.parametrize(
    "function",
    [
        lambda mapper: mapper.transform,
        lambda mapper: functools.partial(print, mapper),
        lambda mapper: functools.partial(mapper.transform),
        lambda mapper: functools.partial(print, end=mapper),
    ],
)
def test_parts_behind_functions_are_refused(function: Callable[[Any], Any]) -> None:
    with pytest.raises(ArtifactInvalid, match="it has a _BinMapper in the place of"):
        check_places(FunctionTransformer(function(part("_BinMapper"))))


def test_a_private_class_of_another_scikit_learn_is_refused() -> None:
    kind: Any = type("_New", (), {"__module__": "sklearn.new"})
    public: Any = type("New", (), {"__module__": "sklearn.new"})

    check_places(with_state(StandardScaler(), a=public()))
    with pytest.raises(ArtifactInvalid, match=r"a _New in the place of StandardScaler\.a"):
        check_places(with_state(StandardScaler(), a=kind()))


def test_containers_that_hold_themselves_are_walked_once() -> None:
    held: list[Any] = [1]
    held.append(held)
    for _ in range(100):
        held = [held, held]

    check_places(with_state(StandardScaler(), a=held, b={"c": held}))
