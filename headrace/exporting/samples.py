"""Rows of a version with their predictions: golden ones from training, which stay private, and public ones."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.data.predictions import Classes, Predictions, as_classes
from headrace.data.table import Table
from headrace.errors import NotExportable
from headrace.models.made_up import Distribution
from headrace.models.manifest import Feature, Sample

SAMPLES = 5

SAMPLES_WITH_NULLS = 3

MADE_UP_ROWS = 50
"""Number of made-up rows of which the samples are chosen."""

GIVEN_ROWS_MAX = 20

Rows = list[list[Any]]
Predict = Callable[[Rows], Predictions]


def golden_positions(table: Table, positions: list[int], predictions: NDArray[np.generic]) -> list[int]:
    """Choose training rows whose predictions are spread, and rows with missing values.

    `predictions` belong to the rows at `positions`, shape (n,) or (n, outputs).
    """
    gaps = np.column_stack([each.missing[positions] for each in table.columns])
    return [positions[i] for i in _spread(predictions, gaps)]


def public_rows(wanted: Any, features: Sequence[Feature], predict: Predict) -> Rows:
    """Return the rows that anyone may see.

    Args:
        wanted: "synthetic" for rows that are drawn from the reference distributions, "none" for no rows, or rows of the
            caller: a data frame, dictionaries by feature, or lists in the order of the features.
        features: the features of the manifest.
        predict: a function from rows to the predictions of the stored estimator.

    Raises:
        NotExportable: if rows of the caller are too many, or do not fit the features.
    """
    if not isinstance(wanted, str):
        return _given(wanted, features)
    return [] if wanted == "none" else _made_up(features, predict)


def check_wanted(wanted: Any) -> None:
    """Check that `wanted` is none but the two words, if it is a word.

    Raises:
        NotExportable: if it is another word, or None.
    """
    if wanted is None or (isinstance(wanted, str) and wanted not in ("synthetic", "none")):
        raise NotExportable(f"samples is {wanted!r}: it is 'synthetic', 'none', or rows that anyone may see")


def as_samples(rows: Rows, predictions: Predictions, classes: Sequence[Classes | None]) -> list[Sample]:
    """Return rows with their predictions as samples, classes in their own type."""
    columns = [as_classes(*pair) for pair in zip(predictions.by_output(), classes, strict=True)]
    predictions = replace(predictions, values=np.column_stack(columns) if len(columns) > 1 else columns[0])
    result = []
    for i, row in enumerate(rows):
        prediction, probabilities = predictions.of_row(i)
        result.append(Sample.model_validate({"row": row, "prediction": prediction, "probabilities": probabilities}))
    return result


def _made_up(features: Sequence[Feature], predict: Predict) -> Rows:
    random = Random(0)
    drawing = [Distribution(feature) for feature in features]
    drawn = [tuple(each.draw(random) for each in drawing) for _ in range(MADE_UP_ROWS)]
    rows = _predictable(list(map(list, dict.fromkeys(drawn))), predict)
    if not rows:
        warnings.warn(
            "the estimator predicts none of the made-up rows, so the version shows no samples: "
            "pass rows that anyone may see as samples=, or samples='none'",
            stacklevel=2,
        )
        return []
    gaps = np.array([[value is None for value in row] for row in rows])
    return [rows[i] for i in _spread(predict(rows).values, gaps)]


def _predictable(rows: Rows, predict: Predict) -> Rows:
    """Leave out rows that the estimator refuses: a made-up row may hold what never stood together in training."""
    try:
        predict(rows)
    except NotExportable:
        if len(rows) == 1:
            return []
        middle = len(rows) // 2
        return _predictable(rows[:middle], predict) + _predictable(rows[middle:], predict)
    return rows


def _given(wanted: Any, features: Sequence[Feature]) -> Rows:
    names = [feature.name for feature in features]
    try:
        frame = pd.DataFrame(wanted)
        if not set(names) <= set(frame.columns):
            frame.columns = pd.Index(names)
    except (TypeError, ValueError) as error:
        raise NotExportable(f"samples: they can't be read as rows of {len(names)} features: {error}") from None
    if not 0 < len(frame) <= GIVEN_ROWS_MAX:
        raise NotExportable(f"samples: {len(frame)} rows; 1 to {GIVEN_ROWS_MAX} are shown (samples='none' shows none)")
    cells = [[_cell(value, feature) for value in frame[feature.name].astype(object).tolist()] for feature in features]
    return [list(row) for row in zip(*cells, strict=True)]


def _cell(value: Any, feature: Feature) -> Any:
    """Return a value as a caller would send it.

    Raises:
        NotExportable: if the gateway would refuse it.
    """
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or plain is pd.NA or plain != plain:
        if not feature.nullable:
            raise NotExportable(f"samples: column {feature.name!r} was never missing in training")
        return None
    allowed = {"number": (int, float), "string": (str,), "boolean": (bool,)}[feature.type]
    if not isinstance(plain, allowed) or (feature.type == "number" and isinstance(plain, bool)):
        raise NotExportable(f"samples: column {feature.name!r} holds a {type(plain).__name__}, not a {feature.type}")
    return float(plain) if feature.type == "number" else plain


def _spread(predictions: NDArray[np.generic], gaps: NDArray[np.bool_]) -> list[int]:
    """Choose rows whose predictions spread over the classes or the range of a number, and rows with missing values.

    `predictions` has shape (n,) or (n, outputs), `gaps` has shape (n, features) and is true for missing values.
    """
    # Ranks instead of values: `np.unique` finds no unique rows in an array of objects, which texts are.
    ranks = np.column_stack([np.unique(each, return_inverse=True)[1] for each in Predictions(predictions).by_output()])
    _, first_of_each = np.unique(ranks, axis=0, return_index=True)
    spread = [*_evenly(first_of_each), *_evenly(np.argsort(ranks[:, 0], kind="stable"))]
    return list(dict.fromkeys([*list(dict.fromkeys(spread))[:SAMPLES], *_with_nulls(gaps)]))


def _with_nulls(gaps: NDArray[np.bool_]) -> list[int]:
    """Choose at most `SAMPLES_WITH_NULLS` rows that together lack a value in as many columns as possible."""
    found: list[int] = []
    while gaps.any() and len(found) < SAMPLES_WITH_NULLS:
        most = int(np.argmax(gaps.sum(axis=1)))
        found.append(most)
        gaps = gaps & ~gaps[most]
    return found


def _evenly(positions: NDArray[np.intp]) -> list[int]:
    taken = np.linspace(0, len(positions) - 1, min(SAMPLES, len(positions))).round().astype(int)
    return [int(position) for position in positions[taken]]
