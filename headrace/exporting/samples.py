"""Samples: a few training rows with their predictions, which workers and tests can check."""

import numpy as np
from numpy.typing import NDArray

from headrace.data.predictions import Predictions
from headrace.data.table import Table
from headrace.models.manifest import Sample

SAMPLES = 5

SAMPLES_WITH_NULLS = 3


def sample_positions(table: Table, positions: list[int], predictions: NDArray[np.generic]) -> list[int]:
    """Choose rows whose predictions spread over the classes or the range of a number, and rows with missing values.

    `predictions` belong to the rows at `positions`, shape (n,) or (n, outputs).
    """
    # Ranks instead of values: `np.unique` finds no unique rows in an array of objects, which texts are.
    ranks = np.column_stack([np.unique(each, return_inverse=True)[1] for each in Predictions(predictions).by_output()])
    _, first_of_each = np.unique(ranks, axis=0, return_index=True)
    spread = [*_evenly(first_of_each), *_evenly(np.argsort(ranks[:, 0], kind="stable"))]
    chosen = [positions[i] for i in dict.fromkeys(spread)][:SAMPLES]
    return list(dict.fromkeys([*chosen, *_with_nulls(table, positions)]))


def samples(rows: list[list[object]], predictions: Predictions) -> list[Sample]:
    """Return the samples of the manifest."""
    result = []
    for i, row in enumerate(rows):
        prediction, probabilities = predictions.of_row(i)
        result.append(Sample.model_validate({"row": row, "prediction": prediction, "probabilities": probabilities}))
    return result


def _with_nulls(table: Table, positions: list[int]) -> list[int]:
    """Choose at most `SAMPLES_WITH_NULLS` rows that together lack a value in as many columns as possible."""
    gaps = np.column_stack([each.missing[positions] for each in table.columns])
    found: list[int] = []
    while gaps.any() and len(found) < SAMPLES_WITH_NULLS:
        most = int(np.argmax(gaps.sum(axis=1)))
        found.append(positions[most])
        gaps = gaps & ~gaps[most]
    return found


def _evenly(positions: NDArray[np.intp]) -> list[int]:
    taken = np.linspace(0, len(positions) - 1, min(SAMPLES, len(positions))).round().astype(int)
    return [int(position) for position in positions[taken]]
