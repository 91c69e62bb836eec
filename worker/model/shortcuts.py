"""Shorter ways to the same predictions: arrays in the place of frames, and classes read off the probabilities.

Only types whose code is known to predict the same qualify. A version is tried both ways when it is loaded.
"""

import random
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.models.manifest import Feature, Manifest
from shared.queue.contract import Row
from worker.model.loader import contained, is_time_limit
from worker.model.predictions import greatest_by_row
from worker.model.rows import Rows, array_of_frame

ARGMAX_BY_IMPLEMENTATION = frozenset(
    [
        *("BernoulliNB", "CategoricalNB", "GaussianNB", "MultinomialNB"),
        *("DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier"),
        *("GradientBoostingClassifier", "HistGradientBoostingClassifier"),
        *("KNeighborsClassifier", "LogisticRegression", "LogisticRegressionCV", "MLPClassifier"),
    ]
)
"""scikit-learn's classifiers whose `predict` is the class of the greatest probability, ties aside."""

TIE = 1e-9
"""Largest difference of two probabilities that is a tie: `predict` compares unrounded scores, and may choose either."""

BY_NAME = frozenset(["ColumnTransformer", "FunctionTransformer"])
"""scikit-learn's types that may choose columns by their names, or give a frame to functions of others."""

MADE_UP_ROWS = 200

Converter = Callable[[Rows], Any]
"""A function from rows to the estimator's input."""


def argmax_without_ties(probabilities: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return the position of the greatest probability of each row.

    Args:
        probabilities: Shape (n rows, n classes).

    Returns:
        Shape (n rows,); None if a row has a tie or NaN.
    """
    top = greatest_by_row(probabilities)[:, np.newaxis]
    # No row can make up for the tie of another: NaN counts as a tie.
    n_rows, n_classes = probabilities.shape
    if np.count_nonzero(probabilities < top - TIE) < n_rows * (n_classes - 1):
        return None
    positions: NDArray[np.intp] = probabilities.argmax(axis=1)
    return positions


def classes_by_probability(
    manifest: Manifest, estimator: Any, convert: Converter, samples: list[Row]
) -> NDArray[Any] | None:
    """Return the classes in the order of the probabilities if the greatest one is always the prediction, else None.

    It is tried on `samples`, the rows of which the predictions at export are known, and on MADE_UP_ROWS made-up rows.
    """
    if not samples or not manifest.probabilities or len(manifest.outputs) > 1 or not _is_argmax(estimator):
        return None
    classes = np.asarray(estimator.classes_)
    for rows in samples, _made_up_rows(manifest, samples):
        try:
            with contained():
                inputs = convert(rows)
                predictions = np.asarray(estimator.predict(inputs))
                probabilities = np.asarray(estimator.predict_proba(inputs))
        except Exception as error:
            if is_time_limit(error):
                raise
            # The estimator may reject made-up rows.
            return None
        top = probabilities.max(axis=1, keepdims=True)
        clear = np.count_nonzero(probabilities >= top - TIE, axis=1) == 1
        if not np.array_equal(classes[probabilities.argmax(axis=1)][clear], predictions[clear]):
            return None
    return classes


def array_converter(manifest: Manifest, estimator: Any, convert: Converter, samples: list[Row]) -> Converter | None:
    """Return a function from rows to arrays of which the estimator predicts the same as of frames; None without one.

    scikit-learn takes a frame of numbers apart in 0.6 ms for each call, however few rows it has, only to compare names
    that the gateway has put into their order, and goes on with the array that this function returns. The arguments are
    those of `classes_by_probability`.
    """
    as_array = array_of_frame(manifest)
    if as_array is None or not samples:
        return None
    warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
    try:
        with contained():
            if not _goes_by_position(estimator):
                return None
            for rows in samples, _made_up_rows(manifest, samples):
                ours = _answers(manifest, estimator, as_array(rows))
                theirs = _answers(manifest, estimator, convert(rows))
                if not all(map(_is_identical, ours, theirs)):
                    return None
    except Exception as error:
        if is_time_limit(error):
            raise
        # The estimator may lack a parameter, or reject made-up rows.
        return None
    return as_array


def _goes_by_position(estimator: Any) -> bool:
    """Return True if an estimator and all within it are scikit-learn's, and none chooses columns by their names."""
    if not _is_sklearn(estimator):
        return False
    parameters = chain.from_iterable(map(_flat, estimator.get_params(deep=True).values()))
    within = [estimator, *(each for each in parameters if hasattr(each, "fit"))]
    return all(_is_sklearn(each) and type(each).__name__ not in BY_NAME for each in within)


def _is_sklearn(estimator: Any) -> bool:
    return type(estimator).__module__.startswith("sklearn.")


def _flat(value: Any) -> Iterator[Any]:
    """Yield a parameter, or what the lists and tuples in it hold: the steps of a pipeline are pairs."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def _answers(manifest: Manifest, estimator: Any, inputs: Any) -> list[NDArray[Any]]:
    """Return the predictions, and the probabilities of each output if the version has some."""
    found = [estimator.predict(inputs)]
    if manifest.probabilities:
        probabilities = estimator.predict_proba(inputs)
        found += [probabilities] if len(manifest.outputs) == 1 else probabilities
    return [np.asarray(each) for each in found]


def _is_identical(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Return True if two arrays have the same dtype and the same values, to the last bit; NaN is no such value."""
    return ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def _is_argmax(estimator: Any) -> bool:
    final = estimator
    while type(final).__name__ == "Pipeline" and type(final).__module__ == "sklearn.pipeline":
        final = final.steps[-1][1]
    return type(final).__name__ in ARGMAX_BY_IMPLEMENTATION and _is_sklearn(final)


def _made_up_rows(manifest: Manifest, samples: list[Row]) -> list[Row]:
    chance = random.Random(0)
    columns = [_values(feature, [row[at] for row in samples], chance) for at, feature in enumerate(manifest.features)]
    return [list(row) for row in zip(*columns, strict=True)]


def _values(feature: Feature, seen: list[Any], chance: random.Random) -> list[Any]:
    """Draw MADE_UP_ROWS values of a feature; `seen` are the values of the samples."""
    if feature.type == "number":
        low, high = feature.minimum or 0.0, feature.maximum or 0.0
        shares = [chance.random() for _ in range(MADE_UP_ROWS)]
        # The difference of the bounds may be more than the greatest number.
        drawn: list[Any] = [low * (1 - share) + high * share for share in shares]
        if pd.api.types.pandas_dtype(feature.dtype).kind in "iub":
            drawn = [round(value) for value in drawn]
    elif feature.type == "boolean":
        drawn = chance.choices((True, False), k=MADE_UP_ROWS)
    else:
        drawn = chance.choices(feature.categories or seen, k=MADE_UP_ROWS)
    return [None if feature.nullable and chance.random() < 0.1 else value for value in drawn]
