"""Golden rows: a few training rows with what the model says of them, which workers and tests can check."""

import numpy as np
from numpy.typing import NDArray

from headrace.data.answers import Answers
from headrace.data.table import Table
from headrace.models.manifest import Sample

SAMPLES = 5

SAMPLES_WITH_NULLS = 3


def sample_positions(table: Table, positions: list[int], predictions: NDArray[np.generic]) -> list[int]:
    """Rows whose predictions spread over the classes or the range of a number, and rows with missing values.

    `predictions` are those of the rows at `positions`, shape (n,) or (n, outputs).
    """
    # Ranks instead of values: texts as objects have no unique rows.
    ranks = np.column_stack([np.unique(each, return_inverse=True)[1] for each in Answers(predictions).columns()])
    _, first_of_each = np.unique(ranks, axis=0, return_index=True)
    spread = [*_evenly(first_of_each), *_evenly(np.argsort(ranks[:, 0], kind="stable"))]
    chosen = [positions[i] for i in dict.fromkeys(spread)][:SAMPLES]
    return list(dict.fromkeys([*chosen, *_with_nulls(table, positions)]))


def samples(rows: list[list[object]], answers: Answers) -> list[Sample]:
    """The manifest's samples."""
    result = []
    for i, row in enumerate(rows):
        prediction, probabilities = answers.plain(i)
        result.append(Sample.model_validate({"row": row, "prediction": prediction, "probabilities": probabilities}))
    return result


def _with_nulls(table: Table, positions: list[int]) -> list[int]:
    """Rows that together miss every column that may be missing, as far as few rows can."""
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
