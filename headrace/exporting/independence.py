"""The check that a row's prediction is the same alone, in any batch and in any order."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from headrace.data.predictions import Predictions, first_difference
from headrace.data.rows import Layout, Rows, estimator_input, predict_rows
from headrace.errors import NotExportable
from headrace.models.manifest import Feature

BATCH_ROWS_MAX = 1_000
"""Number of rows, evenly spaced, that are predicted once more in the opposite order."""

UNSEEN_TEXT = "text that was not in training"


@dataclass(frozen=True, eq=False)
class Stored:
    """An estimator as it was read back from its artifact, for rows as callers send them."""

    estimator: Any
    layout: Layout
    probabilities: bool

    def predict(self, rows: Rows) -> Predictions:
        """Predict rows as a worker does."""
        return predict_rows(self.estimator, rows, self.layout, probabilities=self.probabilities)


def check_independence(stored: Stored, rows: Rows, predictions: Predictions, singly: Sequence[int]) -> None:
    """Predict rows in other batches, alone, and beside odd rows.

    Args:
        stored: the estimator.
        rows: the rows.
        predictions: the predictions of these rows in one batch.
        singly: positions of rows that are also predicted one by one.

    Raises:
        NotExportable: if a prediction changes with the batch: a worker predicts rows of different callers in one call.
    """
    step = -(-len(rows) // BATCH_ROWS_MAX)
    for positions in [list(range(len(rows)))[::-step], *([each] for each in singly)]:
        found = stored.predict([rows[at] for at in positions])
        _refuse_difference(stored, [rows[at] for at in positions], predictions.at(positions), found)
    some = [rows[at] for at in singly]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _check_beside_odd_rows(stored, some, predictions.at(list(singly)))


def refuse_difference(expected: Predictions, found: Predictions, complaint: str, advice: str = "") -> None:
    """Compare two predictions of the same rows.

    Raises:
        NotExportable: if a row has different ones: the complaint, the row, its predictions and the advice.
    """
    row = first_difference(expected, found)
    if row is not None:
        one, other = expected.of_row(row), found.of_row(row)
        differing = (one, other) if one[0] == other[0] else (one[0], other[0])
        raise NotExportable(f"{complaint}: row {row}: {differing[0]!r}, then {differing[1]!r}{advice}")


def _check_beside_odd_rows(stored: Stored, rows: Rows, predictions: Predictions) -> None:
    batch, alone = list(rows), [predictions]
    for row in _odd_rows(stored.layout.features, rows[0]):
        try:
            alone.append(stored.predict([row]))
        except NotExportable:
            # The estimator refuses the row, alone and in any batch.
            continue
        batch.append(row)
    expected = Predictions.concatenated(alone)
    for rows_beside in (batch, [*batch, _large_row(stored.layout.features, rows[0])]):
        try:
            found = stored.predict(rows_beside)
        except NotExportable:
            # A worker then predicts the rows in smaller parts, and at last one by one.
            continue
        # The answer to the large row is not compared: sums of large numbers are rounded too much.
        _refuse_difference(stored, rows_beside, expected, found.at(np.arange(len(batch))))


def _odd_rows(features: Sequence[Feature], row: Sequence[Any]) -> list[list[Any]]:
    """Return variants of a row: with fractions, nulls and unseen texts where the features allow them."""
    pairs = list(zip(features, row, strict=True))
    variants = [
        [(each.maximum or 0.0) + 0.5 if each.type == "number" else value for each, value in pairs],
        [None if each.nullable else value for each, value in pairs],
        [UNSEEN_TEXT if each.type == "string" else value for each, value in pairs],
    ]
    return [each for each in variants if each != list(row)]


def _large_row(features: Sequence[Feature], row: Sequence[Any]) -> list[Any]:
    """Return a row with numbers far beyond those of training."""
    return [
        1e6 * (1.0 + abs(each.maximum or 0.0)) if each.type == "number" else value
        for each, value in zip(features, row, strict=True)
    ]


def _refuse_difference(stored: Stored, rows: Rows, expected: Predictions, found: Predictions) -> None:
    row = first_difference(expected, found)
    if row is None:
        return
    if first_difference(found, stored.predict(rows)) is not None:
        raise NotExportable("two predictions of the same rows differ: it draws at random, or changes while it predicts")
    complaint = "what it predicts for a row depends on the other rows of the batch"
    refuse_difference(expected, found, complaint, _advice(_mixing_step(stored, rows, row)))


def _advice(step: str | None) -> str:
    if step is None:
        return ""
    return f". {step} makes something else of it beside other rows: figures of the training rows belong into its fit"


def _mixing_step(stored: Stored, rows: Rows, row: int) -> str | None:
    """Return the name of the first step of a pipeline that makes something else of a row alone than in the batch."""
    others = rows if len(rows) > 1 else [*rows, *_odd_rows(stored.layout.features, rows[row])]
    try:
        pipeline = getattr(stored.estimator, "best_estimator_", stored.estimator)
        batch, alone = (estimator_input(each, stored.layout) for each in (others, [rows[row]]))
        for name, step in getattr(pipeline, "steps", ())[:-1]:
            if step not in (None, "passthrough"):
                batch, alone = step.transform(batch), step.transform(alone)
                if not _same_cells(_cells(batch, row), _cells(alone, 0)):
                    return f"Its step {name!r} ({type(step).__name__})"
    except Exception:
        # Foreign code: the refusal then names no step.
        return None
    return None


def _cells(matrix: Any, row: int) -> list[Any]:
    if isinstance(matrix, pd.DataFrame):
        return list(matrix.iloc[row].tolist())
    cells = matrix[row].toarray() if hasattr(matrix, "tocsr") else np.asarray(matrix)[row]
    return list(np.ravel(cells).tolist())


def _same_cells(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(_same_cell, one, other))


def _same_cell(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, equal_nan=True))
    return type(one) is type(other) and bool(pd.isna(one) or one == other)
