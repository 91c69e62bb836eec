"""Checks of ensembles of trees, whose numbers native code follows."""

from functools import partial
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree
from sklearn.utils import check_array

from headrace.errors import ArtifactInvalid
from headrace.loading.fitted.inside import ANY, check_inside, has_shape
from headrace.loading.parts import leaves


def check_widths(part: Any) -> None:
    """Check that native code finds each feature of the trees in a row that scikit-learn took for wide enough."""
    width = vars(part).get("n_features_in_")
    for tree in _trees_of(part):
        if type(tree) is not Tree or tree.n_features != width:
            raise ArtifactInvalid("a tree is for rows of another width")


def _trees_of(part: Any) -> list[Any]:
    fitted = vars(part)
    if isinstance(part, BaseDecisionTree):
        return [fitted["tree_"]] if "tree_" in fitted else []
    held = [*leaves(fitted.get("estimators_", []))]
    if not all(isinstance(each, BaseDecisionTree) for each in held):
        raise ArtifactInvalid("an ensemble of trees has another estimator in the place of a tree")
    return [vars(each)["tree_"] for each in held]


def check_stages(part: Any) -> None:
    """Check that the first predictions are as wide as the stages, which native code adds to them."""
    fitted = vars(part)
    stages = fitted.get("estimators_")
    if stages is None:
        return
    loss = fitted["_loss"]
    for each, module in [(loss, "sklearn._loss.loss"), (loss.link, "sklearn._loss.link")]:
        if type(each).__module__ != module or any(hasattr(type(each), name) for name in vars(each)):
            raise ArtifactInvalid("a gradient boosting has another loss than scikit-learn's")
    if not has_shape(stages, ANY, _first_width(part, loss)) or stages.dtype != object:
        raise ArtifactInvalid("the stages of a gradient boosting are wider than its first predictions")


def _first_width(part: Any, loss: Any) -> int:
    """Return the columns of the first predictions, as scikit-learn makes them."""
    first = vars(part)["init_"]
    if type(first) is str and first == "zero":
        width = vars(part)["n_trees_per_iteration_"]
        return width if type(width) is int else -1
    known = vars(first)
    if type(known.get("n_outputs_")) is int and known["n_outputs_"] == 1:
        if not is_classifier(part) and type(first) is DummyRegressor:
            return 1
        prior = known.get("class_prior_")
        # scikit-learn asks a classifier for the probabilities, and takes those of the second of two classes.
        if is_classifier(part) and type(first) is DummyClassifier and known["_strategy"] == "prior":
            return (len(prior) if loss.is_multiclass else 1) if has_shape(prior, ANY) else -1
    raise ArtifactInvalid("a gradient boosting begins with another estimator than scikit-learn's default")


def check_isolation(part: Any) -> None:
    """Check that each tree of an isolation forest takes as many features as it gets of a row."""
    fitted = vars(part)
    trees = _trees_of(part)
    if not trees:
        return
    width, features = fitted["_max_features"], fitted["estimators_features_"]
    if not all(has_shape(each, width) and each.dtype.kind == "i" for each in features) or any(
        type(tree) is not Tree or tree.n_features != width for tree in trees
    ):
        raise ArtifactInvalid("a tree is for rows of another width")


def check_histograms(part: Any) -> None:
    """Check that the trees of a histogram gradient boosting find each feature in a row, and each category in its bins.

    While it is fitted, scikit-learn passes rows on without a look at their width.
    """
    fitted = vars(part)
    predictors = [*leaves(fitted.get("_predictors", []))]
    if fitted.get("_bin_mapper") is not None:
        _check_bins(fitted["_bin_mapper"])
    if not predictors:
        return
    mapper, width = fitted["_bin_mapper"], _width_of_histograms(part)
    if not (
        type(mapper) is _BinMapper
        and has_shape(mapper.is_categorical_, width)
        and fitted["_n_features"] == width
        and "_in_fit" not in fitted
    ):
        raise ArtifactInvalid("the bins of a histogram gradient boosting are for rows of another width")
    for each in predictors:
        if type(each) is not TreePredictor:
            raise ArtifactInvalid("a histogram gradient boosting has another part in the place of a tree")
        nodes = np.asarray(each.nodes)
        check_inside(nodes["feature_idx"], width)
        is_categorical = nodes["is_categorical"] != 0
        if not np.all(mapper.is_categorical_[nodes["feature_idx"][is_categorical]]):
            raise ArtifactInvalid("a tree takes a number for a category")


def _check_bins(mapper: Any) -> None:
    """Check that a mapper has the limits of the bins of each feature: native code takes as many for granted."""
    known = vars(mapper) if type(mapper) is _BinMapper else {}
    limits = known.get("bin_thresholds_")
    if not (
        type(limits) is list
        and all(has_shape(each, ANY) and each.dtype == np.float64 for each in limits)
        and has_shape(known["is_categorical_"], len(limits))
        and has_shape(known["n_bins_non_missing_"], len(limits))
    ):
        raise ArtifactInvalid("a histogram gradient boosting has bins of other features")


def _width_of_histograms(part: Any) -> int:
    """Return the features of the rows that scikit-learn makes for the trees of a histogram gradient boosting."""
    fitted = vars(part)
    width: int = fitted["n_features_in_"]
    encoder = fitted["_preprocessor"]
    if encoder is None:
        return width
    if type(encoder) is not ColumnTransformer:
        raise ArtifactInvalid("a histogram gradient boosting has another encoder of categories than scikit-learn's")
    known = vars(encoder)
    are_known = known["transformer_weights"] is None
    n_columns = 0
    for name, step, columns in known["transformers_"]:
        if name == "remainder" and type(step) is str and step == "drop":
            continue
        are_columns = has_shape(columns, width) and columns.dtype == bool
        indices = np.flatnonzero(columns).tolist()
        are_known &= are_columns and _keeps_columns(step) and known["_transformer_to_input_indices"][name] == indices
        n_columns += len(indices)
    if not are_known:
        raise ArtifactInvalid("a histogram gradient boosting encodes columns in another way than scikit-learn does")
    return n_columns


def _keeps_columns(step: Any) -> bool:
    if type(step) is FunctionTransformer:
        function = step.func
        return isinstance(function, partial) and function.func is check_array and step.kw_args is None
    return type(step) is OrdinalEncoder
