"""Classifiers whose `predict` can be read off their probabilities, which saves half of the estimator's time."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.models.manifest import Feature, Manifest
from shared.queue.contract import Row
from worker.model.loader import contained, is_time_limit

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

MADE_UP_ROWS = 200


def argmax_without_ties(probabilities: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return the position of the greatest probability of each row.

    Args:
        probabilities: Shape (n rows, n classes).

    Returns:
        Shape (n rows,); None if a row has a tie or NaN.
    """
    top = probabilities.max(axis=1, keepdims=True)
    # No row can make up for the tie of another: NaN counts as a tie.
    n_rows, n_classes = probabilities.shape
    if np.count_nonzero(probabilities < top - TIE) < n_rows * (n_classes - 1):
        return None
    positions: NDArray[np.intp] = probabilities.argmax(axis=1)
    return positions


def classes_by_probability(
    manifest: Manifest, estimator: Any, convert: Callable[[list[Row]], Any], samples: list[Row]
) -> NDArray[Any] | None:
    """Return the classes in the order of the probabilities if the greatest one is always the prediction, else None.

    Only types whose code is known to predict that way qualify. They are then tried on `samples` and on
    MADE_UP_ROWS made-up rows.

    Args:
        manifest: The version that the estimator belongs to.
        estimator: The fitted estimator.
        convert: The function from rows to the estimator's input.
        samples: The rows of which the predictions at export are known.
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


def _is_argmax(estimator: Any) -> bool:
    final = estimator
    while type(final).__name__ == "Pipeline" and type(final).__module__ == "sklearn.pipeline":
        final = final.steps[-1][1]
    return type(final).__name__ in ARGMAX_BY_IMPLEMENTATION and type(final).__module__.startswith("sklearn.")


def _made_up_rows(manifest: Manifest, samples: list[Row]) -> list[Row]:
    chance = random.Random(0)
    columns = [_values(feature, [row[at] for row in samples], chance) for at, feature in enumerate(manifest.features)]
    return [list(row) for row in zip(*columns, strict=True)]


def _values(feature: Feature, seen: list[Any], chance: random.Random) -> list[Any]:
    """Draw MADE_UP_ROWS values of a feature; `seen` are the values of the samples."""
    if feature.type == "number":
        low, high = feature.minimum or 0.0, feature.maximum or 0.0
        drawn: list[Any] = [chance.uniform(low, high) for _ in range(MADE_UP_ROWS)]
        if pd.api.types.pandas_dtype(feature.dtype).kind in "iub":
            drawn = [round(value) for value in drawn]
    elif feature.type == "boolean":
        drawn = chance.choices((True, False), k=MADE_UP_ROWS)
    else:
        drawn = chance.choices(feature.categories or seen, k=MADE_UP_ROWS)
    return [None if feature.nullable and chance.random() < 0.1 else value for value in drawn]
