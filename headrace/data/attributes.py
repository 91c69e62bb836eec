"""Fitted attributes of estimators, which may be anything: foreign code has set them, or computes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from headrace.data.kinds import kind_of
from headrace.errors import NotExportable


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn whatever the use of an attribute raises into NotExportable, which names the attribute."""
    try:
        yield
    except NotExportable:
        raise
    except Exception as error:
        raise unusable(name, f"it raises {type(error).__name__}: {error}") from error


def unusable(name: str, reason: str) -> NotExportable:
    """Return the error that an attribute of an estimator can't be used."""
    return NotExportable(f"its attribute {name} can't be used: {reason}")


def fitted_names(estimator: Any) -> list[str] | None:
    """Return the names of the columns that an estimator, or its first step, was fitted with; None if it has none.

    Raises:
        NotExportable: if `feature_names_in_` is anything but names, without repetition.
    """
    with explained("feature_names_in_"):
        names = getattr(estimator, "feature_names_in_", None)
        if names is None:
            first = _first_step(estimator)
            return None if first is None else fitted_names(first)
        listed = one_dimension("feature_names_in_", np.asarray(names, dtype=object))
        if not all(isinstance(each, str) for each in listed):
            raise unusable("feature_names_in_", "its names are not all texts")
        _check_repeats("feature_names_in_", listed)
        return list(map(str, listed))


def fitted_classes(estimator: Any) -> list[list[Any]] | None:
    """Return the classes of each output of an estimator, or those of the only one; None if it has none.

    Raises:
        NotExportable: if `classes_` is neither an array of one dimension nor a list of such arrays, or they repeat.
    """
    with explained("classes_"):
        classes = getattr(estimator, "classes_", None)
        if classes is None:
            return None
        are_listed = isinstance(classes, list | tuple) and len(classes) > 0
        are_many = are_listed and all(isinstance(each, list | np.ndarray) for each in classes)
        found = [one_dimension("classes_", np.asarray(each)) for each in (classes if are_many else [classes])]
        for each in found:
            if not each:
                raise unusable("classes_", "there are no classes in it")
            _check_repeats("classes_", each)
        return found


def one_dimension(name: str, values: Any) -> list[Any]:
    """Return the values of an array, which has to have one dimension.

    Raises:
        NotExportable: if it has another shape.
    """
    if values.ndim != 1:
        raise unusable(name, f"it has the shape {values.shape}, expected (n,)")
    return list(values.tolist())


def check_attributes(estimator: Any) -> None:
    """Check the attributes of an estimator that say what it takes and answers, before it is asked for anything.

    Raises:
        NotExportable: if one of them is not of the form that scikit-learn defines, or they contradict each other.
    """
    if isinstance(estimator, Pipeline):
        with explained("steps"):
            if not [step for _, step in estimator.steps]:
                raise unusable("steps", "there are none")
    names = fitted_names(estimator)
    with explained("n_features_in_"):
        width = getattr(estimator, "n_features_in_", None)
        if isinstance(width, np.ndarray) and width.ndim == 0:
            width = width.item()
        if width is not None and not (isinstance(width, int | np.integer) and width > 0):
            raise unusable("n_features_in_", "it is no whole number of at least 1")
    if names is not None and width is not None and len(names) != width:
        raise unusable("feature_names_in_", f"it has {len(names)} names, and n_features_in_ is {width}")
    with explained("__sklearn_tags__"):
        kind = kind_of(estimator)
    if kind != "regressor":
        fitted_classes(estimator)


def _first_step(estimator: Any) -> Any:
    """Return the first step of a pipeline that is more than 'passthrough'; None if there is none."""
    steps = estimator.steps if isinstance(estimator, Pipeline) else []
    return next((step for _, step in steps if step is not None and not isinstance(step, str)), None)


def _check_repeats(name: str, values: list[Any]) -> None:
    if len(set(values)) < len(values):
        raise unusable(name, "some of its values repeat")
