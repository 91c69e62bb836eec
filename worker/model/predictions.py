"""The predictions of an estimator, as plain Python values that are ready for JSON."""

import math
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from headrace.models.manifest import Manifest, Output
from shared.errors import PredictionError
from shared.queue.contract import ErrorCode
from shared.queue.replies import ROWS_AS_TEXT_MIN, packed_piece

_PLAIN_TYPES = {str, int, bool}

FEW_COLUMNS = 16
"""Columns below which the order of columns is the quicker one for the greatest number of each row."""

NON_FINITE = "the model answered NaN or infinity"


class MalformedAnswer(Exception):
    """An answer of an estimator with another number of rows or outputs than it was asked for, or no value of JSON."""


@dataclass(frozen=True)
class Predictions:
    """The predictions for n rows. Lists have one item per row, None for a row that failed."""

    predictions: list[Any]
    """A value per row; with several outputs a list of values per row."""
    probabilities: list[Any] | NDArray[np.float64] | None
    """A probability per class for each row; with several outputs a list of such lists. None if the model has none.

    An array of shape (n rows, n classes) where a model of one output has answered for many rows, and none failed.
    """
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """The greatest probability of each row that did not fail; empty without probabilities or with several outputs."""
    compute_seconds: float = 0.0
    """Seconds inside the estimator."""
    failures: dict[int, PredictionError] = field(default_factory=dict)
    """Position of a row -> its error."""
    untried: frozenset[int] = frozenset()
    """Positions in `failures` whose row was not tried alone: an earlier row of the same call fails."""

    def probability_rows(self) -> list[Any] | None:
        """Return the probabilities as lists, also those of an array."""
        return self.probabilities.tolist() if isinstance(self.probabilities, np.ndarray) else self.probabilities

    def probability_text(self, start: int, end: int) -> str:
        """Return the probabilities of some rows as text, see `Result`; they must be an array."""
        numbers = np.asarray(self.probabilities)[start:end].reshape(-1)
        return orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode()

    def packed_probabilities(self, start: int, end: int) -> dict[str, list[str]]:
        """Return the probabilities of some rows packed, see `Result`; they must be an array."""
        return packed_piece(np.asarray(self.probabilities, dtype="<f8")[start:end].tobytes())


def greatest_by_row(matrix: NDArray[Any]) -> NDArray[Any]:
    """Return the greatest number of each row, shape (n rows,)."""
    # NumPy is ten times as slow with few numbers one behind the other as with many.
    few = matrix.shape[1] < FEW_COLUMNS
    return cast(NDArray[Any], (np.asfortranarray(matrix) if few else matrix).max(axis=1))


def row_error(position: int, code: ErrorCode, message: str) -> PredictionError:
    """Return the error of the row at a position."""
    return PredictionError(code.value, message, [position])


class AnswerReader:
    """A reader of the arrays that the estimator of a version returns."""

    def __init__(self, manifest: Manifest) -> None:
        self._outputs = manifest.outputs

    def read(self, predictions: Any, probabilities: Any, n_rows: int) -> Predictions:
        """Return the answer for n rows as plain values.

        A row with NaN or infinity in its answer fails, because JSON has neither.

        Args:
            predictions: The value that `predict` returned.
            probabilities: The value that `predict_proba` returned, or None.
            n_rows: The number of rows that the estimator was asked for.

        Raises:
            MalformedAnswer: if the shapes are not those of n rows and the manifest's outputs, a number is none, or a
                class is neither text nor number nor boolean.
        """
        try:
            return self._read(predictions, probabilities, n_rows)
        except (TypeError, ValueError, OverflowError) as error:
            raise MalformedAnswer(f"{type(error).__name__} while its values were read") from None

    def _read(self, predictions: Any, probabilities: Any, n_rows: int) -> Predictions:
        columns = [
            column.astype(np.float64, copy=False) if output.kind == "number" else column
            for column, output in zip(self._prediction_columns(predictions, n_rows), self._outputs, strict=True)
        ]
        matrices = None if probabilities is None else self._probability_matrices(probabilities, n_rows)
        finite = np.ones(n_rows, dtype=np.bool_)
        for array in [*columns, *(matrices or [])]:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                finite &= np.isfinite(array) if array.ndim == 1 else np.isfinite(array).all(axis=1)
        failures = {
            position: row_error(position, ErrorCode.ROW_REJECTED, NON_FINITE)
            for position in np.flatnonzero(~finite).tolist()
        }
        values = [_plain(column, output) for column, output in zip(columns, self._outputs, strict=True)]
        found: list[Any] | NDArray[np.float64] | None = None
        confidence = np.empty(0)
        if matrices is not None:
            if len(matrices) == 1:
                confidence = greatest_by_row(matrices[0])[finite]
            if len(matrices) == 1 and n_rows > ROWS_AS_TEXT_MIN and not failures:
                # A copy: the estimator may use its array again for the next part.
                found = np.array(matrices[0], dtype=np.float64, order="C")
            else:
                found = _by_row([matrix.tolist() for matrix in matrices], failures)
        return Predictions(_by_row(values, failures), found, confidence, failures=failures)

    def _prediction_columns(self, predictions: Any, n_rows: int) -> list[NDArray[Any]]:
        """Return one array of shape (n rows,) per output."""
        array = np.asarray(predictions)
        matrix = array.reshape(-1, 1) if array.ndim == 1 else array
        if matrix.shape != (n_rows, len(self._outputs)):
            raise MalformedAnswer(f"predictions of shape {array.shape} for {n_rows} rows, {len(self._outputs)} outputs")
        return list(matrix.T)

    def _probability_matrices(self, probabilities: Any, n_rows: int) -> list[NDArray[Any]]:
        """Return one array of shape (n rows, n classes) per output."""
        matrices = [np.asarray(each) for each in ([probabilities] if len(self._outputs) == 1 else probabilities)]
        matrices = [each if each.dtype.kind == "f" else each.astype(np.float64) for each in matrices]
        shapes = [matrix.shape for matrix in matrices]
        expected = [(n_rows, len(output.classes or ())) for output in self._outputs]
        if shapes != expected:
            raise MalformedAnswer(f"probabilities of shapes {shapes}, not {expected}")
        return matrices


def _plain(column: NDArray[Any], output: Output) -> list[Any]:
    """Return the values of a column as Python values.

    Raises:
        MalformedAnswer: if one of them is no scalar of JSON.
    """
    if output.kind == "class" and column.dtype.kind == "f" and output.classes and isinstance(output.classes[0], int):
        # Some estimators predict 1.0 for 1 and for true. NaN becomes any class: its row has failed already.
        with np.errstate(invalid="ignore"):
            column = column.astype(type(output.classes[0]))
    values: list[Any] = column.tolist()
    if column.dtype.kind in "biufU" or set(map(type, values)) <= _PLAIN_TYPES:
        return values
    # Each would be counted by its hash and written as JSON, which many an object has not, in a batch of many callers.
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not all(map(_is_scalar, values)):
        raise MalformedAnswer("a prediction is neither text nor number nor boolean")
    return values


def _is_scalar(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int)


def _by_row(columns: list[list[Any]], failures: dict[int, PredictionError]) -> list[Any]:
    """Return an item per row, of several columns a list of items; None for a row that failed."""
    rows = columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)]
    for position in failures:
        rows[position] = None
    return rows
