"""What the model says of rows, as plain Python values that are ready for JSON."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.models.manifest import Manifest, Output
from shared.errors import PredictionError
from shared.queue.contract import ErrorCode


class MalformedAnswer(Exception):
    """The estimator answered with another number of rows or outputs than it was asked for."""


@dataclass(frozen=True)
class Predictions:
    """What the model says of n rows.

    With one output `predictions` holds a value per row and `probabilities` a list per row; with several a list of
    values per row and a list of lists. `failures` maps the position of a row to its error; the other lists hold
    None there. `confidence` holds the greatest probability of each row that did not fail, of models with one output
    that have probabilities. `compute_seconds` is the time inside the estimator.
    """

    predictions: list[Any]
    probabilities: list[Any] | None
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    compute_seconds: float = 0.0
    failures: dict[int, PredictionError] = field(default_factory=dict)


def failed(at: int, code: ErrorCode, message: str) -> PredictionError:
    """The error of the row at a position."""
    return PredictionError(code.value, message, [at])


class AnswerReader:
    """Reads what an estimator returns for the model of a manifest."""

    def __init__(self, manifest: Manifest) -> None:
        self._outputs = manifest.outputs

    def read(self, predictions: Any, probabilities: Any, n_rows: int) -> Predictions:
        """The answer for n rows; a row with NaN or infinity in it is a failure, because JSON can't say them.

        `predictions` is what `predict` returned, `probabilities` what `predict_proba` returned or None.

        Raises:
            MalformedAnswer: if the shapes are not those of n rows and the manifest's outputs.
        """
        columns = self._columns(predictions, n_rows)
        shares = None if probabilities is None else self._shares(probabilities, n_rows)
        finite = np.ones(n_rows, dtype=np.bool_)
        for array in [*columns, *(shares or [])]:
            if array.dtype.kind == "f":
                finite &= np.isfinite(array) if array.ndim == 1 else np.isfinite(array).all(axis=1)
        failures = {
            int(at): failed(int(at), ErrorCode.NON_FINITE_OUTPUT, "the model answered NaN or infinity")
            for at in np.flatnonzero(~finite)
        }
        values = [_plain(column, output) for column, output in zip(columns, self._outputs, strict=True)]
        return Predictions(
            _by_row(values, failures),
            None if shares is None else _by_row([each.tolist() for each in shares], failures),
            shares[0].max(axis=1)[finite] if shares and len(shares) == 1 else np.empty(0),
            failures=failures,
        )

    def _columns(self, predictions: Any, n_rows: int) -> list[NDArray[Any]]:
        """One array of shape (n rows,) per output."""
        array = np.asarray(predictions)
        matrix = array.reshape(-1, 1) if array.ndim == 1 else array
        if matrix.shape != (n_rows, len(self._outputs)):
            raise MalformedAnswer(f"predictions of shape {array.shape} for {n_rows} rows, {len(self._outputs)} outputs")
        return list(matrix.T)

    def _shares(self, probabilities: Any, n_rows: int) -> list[NDArray[Any]]:
        """One array of shape (n rows, n classes) per output."""
        shares = [np.asarray(each) for each in ([probabilities] if len(self._outputs) == 1 else probabilities)]
        expected = [(n_rows, len(output.classes or ())) for output in self._outputs]
        if [each.shape for each in shares] != expected:
            raise MalformedAnswer(f"probabilities of shapes {[each.shape for each in shares]}, not {expected}")
        return shares


def _plain(column: NDArray[Any], output: Output) -> list[Any]:
    if output.kind == "number":
        column = column.astype(np.float64, copy=False)
    values: list[Any] = column.tolist()
    if column.dtype.kind == "O":
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
    return values


def _by_row(columns: list[list[Any]], failures: dict[int, PredictionError]) -> list[Any]:
    rows = columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)]
    for at in failures:
        rows[at] = None
    return rows
