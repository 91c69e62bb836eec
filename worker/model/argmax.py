"""Whether a classifier's `predict` may be read off its probabilities, which saves half of the estimator's time."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.models.manifest import Feature, Manifest
from shared.queue.contract import Row

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
"""Probabilities that are closer are a tie: `predict`, which compares unrounded scores, may break it either way."""

PROBE_ROWS = 200


def greatest(probabilities: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """The position of the greatest probability of each row, shape (n rows,), or None if a row has a tie."""
    top = probabilities.max(axis=1, keepdims=True)
    if np.count_nonzero(probabilities >= top - TIE) > len(probabilities):
        return None
    positions: NDArray[np.intp] = probabilities.argmax(axis=1)
    return positions


def classes_by_probability(
    manifest: Manifest, estimator: Any, convert: Callable[[list[Row]], Any]
) -> NDArray[Any] | None:
    """The classes in the order of the probabilities if the greatest always is the prediction, else None.

    Only for types of which it is known by their code, and then tried on the samples and on PROBE_ROWS made-up rows.
    """
    if not manifest.probabilities or len(manifest.outputs) > 1 or not _is_argmax(estimator):
        return None
    classes = np.asarray(estimator.classes_)
    samples = [sample.row for sample in manifest.samples]
    for rows in samples, _probes(manifest, samples):
        try:
            made = convert(rows)
            answers, probabilities = np.asarray(estimator.predict(made)), np.asarray(estimator.predict_proba(made))
        except ValueError:
            # Made-up rows need not make sense to it.
            return None
        top = probabilities.max(axis=1, keepdims=True)
        clear = np.count_nonzero(probabilities >= top - TIE, axis=1) == 1
        if not np.array_equal(classes[probabilities.argmax(axis=1)][clear], answers[clear]):
            return None
    return classes


def _is_argmax(estimator: Any) -> bool:
    final = estimator
    while type(final).__name__ == "Pipeline" and type(final).__module__ == "sklearn.pipeline":
        final = final.steps[-1][1]
    return type(final).__name__ in ARGMAX_BY_IMPLEMENTATION and type(final).__module__.startswith("sklearn.")


def _probes(manifest: Manifest, samples: list[Row]) -> list[Row]:
    chance = random.Random(0)
    columns = [_values(feature, [row[at] for row in samples], chance) for at, feature in enumerate(manifest.features)]
    return [list(row) for row in zip(*columns, strict=True)]


def _values(feature: Feature, seen: list[Any], chance: random.Random) -> list[Any]:
    if feature.type == "number":
        low, high = feature.minimum or 0.0, feature.maximum or 0.0
        drawn: list[Any] = [chance.uniform(low, high) for _ in range(PROBE_ROWS)]
        if np.dtype(feature.dtype).kind in "iu":
            drawn = [round(value) for value in drawn]
    elif feature.type == "boolean":
        drawn = chance.choices((True, False), k=PROBE_ROWS)
    else:
        drawn = chance.choices(feature.categories or seen, k=PROBE_ROWS)
    return [None if feature.nullable and chance.random() < 0.1 else value for value in drawn]
