"""Batches: the calls of many callers, predicted together and answered apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from headrace.models.manifest import Manifest
from shared.errors import PredictionError
from shared.queue.contract import ErrorCode
from shared.queue.replies import ROWS_AS_TEXT_MIN, Result, failure
from worker.metrics.harmless import harmless
from worker.metrics.worker import WorkerMetrics
from worker.model.predictions import Predictions
from worker.model.predictor import Predictor
from worker.model.rows import Rows


@dataclass(frozen=True)
class Computed:
    """The rows that a version predicted, and its predictions."""

    manifest: Manifest
    rows: Rows
    predictions: Predictions


@dataclass(frozen=True)
class BatchResult:
    """The results of the calls of a batch, and the computation behind them."""

    results: list[Result]
    """One result per call, in the order of the calls."""

    computed: Computed | None = None
    """The rows and predictions; None if the version could not be loaded, or all calls had expired."""

    @property
    def compute_seconds(self) -> float:
        """Seconds inside the estimator; 0.0 without a computation."""
        return self.computed.predictions.compute_seconds if self.computed else 0.0

    def with_outputs(self) -> list[Result]:
        """Return the results, each that is no error with the name and classes of every output.

        The outcome of a job stays readable that way after its version has been removed.
        """
        if self.computed is None:
            return self.results
        outputs = [(output.name, output.classes) for output in self.computed.manifest.outputs]
        return [result if "error" in result else {**result, "outputs": outputs} for result in self.results]

    @harmless()
    def count(self, metrics: WorkerMetrics) -> None:
        """Count rows, errors, inputs and predictions of the batch; call it after the answer is out."""
        if self.computed is None:
            return
        rows, predictions = self.computed.rows, self.computed.predictions
        version = metrics.model(self.computed.manifest)
        version.compute_seconds.observe(predictions.compute_seconds)
        version.batch_rows.observe(len(rows))
        version.count_inputs(rows)
        version.count_outputs(predictions.predictions)
        version.count_confidence(predictions.confidence)
        for code, n_rows in Counter(error.code for error in predictions.failures.values()).items():
            version.count_error(code, n_rows)


def expired() -> Result:
    """Return the result of a call that was not computed because its deadline had passed."""
    return failure(PredictionError(ErrorCode.DEADLINE_EXCEEDED.value, "the deadline passed before a worker was free"))


def too_large() -> Result:
    """Return the result of a call whose answer is larger than Redis should hold."""
    return failure(PredictionError(ErrorCode.RESULT_TOO_LARGE.value, "the answer is too large: send fewer rows"))


def sendable(result: Result, max_bytes: int) -> tuple[Result, bytes]:
    """Return the result of a call, and as JSON; in its place an error if it is larger, or has values JSON has not."""
    try:
        text = orjson.dumps(result)
    except TypeError:
        reason = "the model answered with values that JSON does not have"
        result = failure(PredictionError(ErrorCode.PREDICTION_FAILED.value, reason))
        text = orjson.dumps(result)
    if len(text) > max_bytes:
        result = too_large()
        text = orjson.dumps(result)
    return result, text


def predict_calls(
    predictor: Predictor, rows: Rows, sizes: Sequence[int], takes_bytes: Sequence[bool] = ()
) -> BatchResult:
    """Predict the rows of all calls at once; a failing row fails its own call only.

    Args:
        predictor: The version that predicts.
        rows: The rows of all calls, one call after another.
        sizes: The number of rows of each call; they add up to the number of rows.
        takes_bytes: True for each call whose probabilities, of many rows, are packed, and False where they are a text;
            by default all are lists.
    """
    predictions = predictor.predict(rows, sizes)
    results: list[Result] = []
    start = 0
    may_pack = bool(takes_bytes) and isinstance(predictions.probabilities, np.ndarray)
    lists = None if may_pack and min(sizes) > ROWS_AS_TEXT_MIN else predictions.probability_rows()
    for at, size in enumerate(sizes):
        end = start + size
        if may_pack and size > ROWS_AS_TEXT_MIN:
            form = predictions.packed_probabilities if takes_bytes[at] else predictions.probability_text
            probabilities: Any = form(start, end)
        else:
            probabilities = None if lists is None else lists[start:end]
        results.append(_result(predictions, start, end, probabilities))
        start = end
    return BatchResult(results, Computed(predictor.manifest, rows, predictions))


def _result(predictions: Predictions, start: int, end: int, probabilities: Any) -> Result:
    """Return the result of the call whose rows are `start` to `end` of the batch."""
    failed = [at for at in range(start, end) if at in predictions.failures] if predictions.failures else []
    if failed:
        first = predictions.failures[failed[0]]
        n_untried = sum(at in predictions.untried for at in failed)
        rows = [at - start for at in failed if at not in predictions.untried]
        message = f"{first.message}; {n_untried} rows were not tried" if n_untried else first.message
        return failure(PredictionError(first.code, message, rows))
    return {"predictions": predictions.predictions[start:end], "probabilities": probabilities}
