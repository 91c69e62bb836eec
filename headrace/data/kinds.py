"""Kinds of estimators."""

from typing import Any, Literal

from sklearn.base import is_classifier, is_clusterer, is_outlier_detector, is_regressor

Kind = Literal["classifier", "regressor", "clusterer", "outlier detector"]

_TESTS: dict[Kind, Any] = {
    "classifier": is_classifier,
    "regressor": is_regressor,
    "clusterer": is_clusterer,
    "outlier detector": is_outlier_detector,
}


def kind_of(estimator: Any) -> Kind | None:
    """Return the kind of an estimator; None if it is another one, or does not say it.

    A class that only has `fit` and `predict` does not say it: scikit-learn asks for `__sklearn_tags__`, and raises.
    """
    try:
        return next((kind for kind, is_kind in _TESTS.items() if is_kind(estimator)), None)
    except AttributeError:
        return "classifier" if hasattr(estimator, "classes_") else None
