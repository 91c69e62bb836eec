"""A batch: calls of many callers, predicted together and answered apart."""

from collections.abc import Sequence

from shared.errors import PredictionError
from shared.queue.contract import ErrorCode
from shared.queue.replies import Result, failure
from worker.model.predictions import Predictions
from worker.model.predictor import Predictor
from worker.model.rows import Rows


def expired() -> Result:
    """The result of a call that was not computed, for its deadline had passed."""
    return failure(PredictionError(ErrorCode.DEADLINE_EXCEEDED.value, "the deadline passed before a worker was free"))


def too_large() -> Result:
    """The result of a call whose answer would be larger than Redis should hold."""
    return failure(PredictionError(ErrorCode.RESULT_TOO_LARGE.value, "the answer is too large: send fewer rows"))


def predict_calls(predictor: Predictor, rows: Rows, sizes: Sequence[int]) -> tuple[list[Result], Predictions]:
    """Predict the rows of all calls at once; a failing row fails its own call only.

    `sizes` are the numbers of rows of the calls. Returns one result per call, and the predictions of all rows in order.
    """
    answer = predictor.predict(rows)
    results: list[Result] = []
    start = 0
    for size in sizes:
        end = start + size
        bad = [i for i in range(start, end) if i in answer.failures] if answer.failures else []
        if bad:
            first = answer.failures[bad[0]]
            results.append(failure(PredictionError(first.code, first.message, [i - start for i in bad])))
        else:
            probabilities = answer.probabilities
            results.append(
                {
                    "predictions": answer.predictions[start:end],
                    "probabilities": None if probabilities is None else probabilities[start:end],
                }
            )
        start = end
    return results, answer
