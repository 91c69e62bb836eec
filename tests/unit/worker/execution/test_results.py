from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.errors import ROWS_NAMED_MAX, PredictionError
from shared.queue.contract import ErrorCode, Row
from shared.queue.replies import ROWS_AS_TEXT_MIN, as_packed, as_text, failure
from tests.unit.worker.conftest import Publish
from tests.unit.worker.metrics.test_worker import samples
from worker.execution.results import BatchResult, expired, predict_calls
from worker.metrics.worker import WorkerMetrics
from worker.model.predictions import Predictions
from worker.model.predictor import Predictor


@pytest.fixture
def predictor(store: ModelStore, publish: Publish) -> Predictor:
    return Predictor.load(store, publish("m"))


GOOD = [5.0, 3.4, 1.5, 0.2]
BAD = ["text", 0.0, 0.0, 0.0]


def test_every_call_gets_its_own_rows(predictor: Predictor) -> None:
    batch = predict_calls(predictor, [GOOD, [6.5, 3.0, 5.8, 2.2], GOOD], [1, 2, 0])

    assert [result["predictions"] for result in batch.results] == [["setosa"], ["virginica", "setosa"], []]
    assert [len(result["probabilities"]) for result in batch.results] == [1, 2, 0]
    assert batch.computed is not None
    assert batch.computed.predictions.predictions == ["setosa", "virginica", "setosa"]


def test_a_bad_row_fails_its_call_only_and_is_named_by_its_place_in_it(predictor: Predictor) -> None:
    batch = predict_calls(predictor, [GOOD, GOOD, BAD, GOOD, BAD, GOOD], [1, 4, 1])

    assert batch.results[0]["predictions"] == batch.results[2]["predictions"] == ["setosa"]
    assert batch.results[1] == {
        "error": {
            "code": "row_rejected",
            "message": "the model raised ValueError",
            "rows": [1, 3],
            "count": 2,
        }
    }
    assert batch.computed is not None
    assert list(batch.computed.predictions.failures) == [2, 4]


def test_a_model_without_probabilities_has_none(store: ModelStore, publish: Publish) -> None:
    rows = np.array([[0.0], [1.0]])
    predictor = Predictor.load(store, publish("m", estimator=Ridge().fit(rows, [0.0, 1.0]), rows=rows))

    batch = predict_calls(predictor, [[0.5]], [1])

    assert batch.results == [{"predictions": [pytest.approx(0.5)], "probabilities": None}]


def test_a_call_whose_deadline_passed_has_its_code() -> None:
    error: Any = expired()["error"]

    assert error["code"] == ErrorCode.DEADLINE_EXCEEDED.value
    assert error["rows"] == []


class Oracle:
    """A predictor that predicts the first value of each row; a negative one is a failure with that code."""

    manifest = cast(Manifest, None)

    def __init__(self, probabilities: bool = True) -> None:
        self.asked: list[list[Row]] = []
        self._probabilities = probabilities

    def predict(self, rows: list[Row], sizes: list[int]) -> Predictions:
        self.asked.append(rows)
        failures = {i: PredictionError(f"code{row[0]}", "no", [i]) for i, row in enumerate(rows) if row[0] < 0}
        values = [None if i in failures else row[0] for i, row in enumerate(rows)]
        shares: Any = [None if value is None else [value / 10, 1 - value / 10] for value in values]
        if len(rows) > ROWS_AS_TEXT_MIN and not failures:
            shares = np.array(shares)
        untried = frozenset(i for i, row in enumerate(rows) if row[0] < -100)
        return Predictions(
            values, shares if self._probabilities else None, compute_seconds=0.25, failures=failures, untried=untried
        )


def predicted(calls: list[list[Row]], probabilities: bool = True) -> tuple[list[dict[str, Any]], Oracle]:
    oracle = Oracle(probabilities)
    rows = [row for call in calls for row in call]
    batch = predict_calls(cast(Predictor, oracle), rows, [len(call) for call in calls])
    assert batch.compute_seconds == 0.25
    return batch.results, oracle


def test_the_rows_of_all_calls_are_predicted_at_once_and_answered_apart() -> None:
    results, oracle = predicted([[[1]], [[2], [3]], [[4]]])

    assert oracle.asked == [[[1], [2], [3], [4]]]
    assert [result["predictions"] for result in results] == [[1], [2, 3], [4]]
    assert results[1]["probabilities"] == [[0.2, 0.8], [0.3, 0.7]]


def test_probabilities_of_many_rows_are_the_same_numbers_as_text_or_packed() -> None:
    few, many = [[float(value)] for value in range(3)], [[value / 7] for value in range(ROWS_AS_TEXT_MIN + 1)]
    sizes = [len(few), len(many), len(few)]

    def probabilities(rows: list[list[float]], sizes: list[int], takes_bytes: Sequence[bool]) -> list[Any]:
        batch = predict_calls(cast(Predictor, Oracle()), rows, sizes, takes_bytes)
        return [result.get("probabilities") for result in batch.results]

    lists = probabilities([*few, *many, *few], sizes, [])
    assert [len(each) for each in lists] == sizes
    assert lists[1] == [[value / 10, 1 - value / 10] for [value] in many]
    assert probabilities([*few, *many, *few], sizes, [False] * 3) == [lists[0], as_text(lists[1]), lists[2]]
    assert probabilities(many, [len(many)], [False]) == [as_text(lists[1])]
    assert probabilities([*many, *few, *many], [len(many), len(few), len(many)], [True, True, False]) == [
        as_packed(lists[1]),
        lists[0],
        as_text(lists[1]),
    ]
    # A row that fails, and a model without probabilities.
    assert probabilities([*many, [-1.0]], [len(many), 1], [True, True])[0] == lists[1]
    without = predict_calls(cast(Predictor, Oracle(probabilities=False)), many, [len(many)], [False])
    assert without.results[0]["probabilities"] is None


@pytest.mark.parametrize(
    ("calls", "rows"),
    [
        ([[[-1]], [[2]]], {0: [0]}),
        ([[[1], [2]], [[3], [-4], [5]], [[6]]], {1: [1]}),
        ([[[1]], [[-2], [3], [-4]]], {1: [0, 2]}),
        ([[[-1], [2]], [[3]], [[4], [-5]]], {0: [0], 2: [1]}),
    ],
)
def test_a_failing_row_fails_its_own_call_only_and_is_numbered_within_it(
    calls: list[list[Row]], rows: dict[int, list[int]]
) -> None:
    results, _ = predicted(calls)

    assert {i: result["error"]["rows"] for i, result in enumerate(results) if "error" in result} == rows
    for i, (call, result) in enumerate(zip(calls, results, strict=True)):
        assert set(result) == ({"error"} if i in rows else {"predictions", "probabilities"})
        if i not in rows:
            assert result["predictions"] == [row[0] for row in call]


def test_a_call_with_several_failures_is_told_the_first() -> None:
    results, _ = predicted([[[1], [-2], [-3]]])

    assert results == [{"error": {"code": "code-2", "message": "no", "rows": [1, 2], "count": 2}}]


def test_rows_that_were_not_tried_are_counted_apart() -> None:
    results, _ = predicted([[[1], [-2], [-101], [-102]]])

    assert results == [{"error": {"code": "code-2", "message": "no; 2 rows were not tried", "rows": [1], "count": 1}}]


def test_the_positions_of_many_rows_are_cut_and_counted() -> None:
    [result], _ = predicted([[[-2]] * (2 * ROWS_NAMED_MAX)])

    assert result["error"]["rows"] == [*range(ROWS_NAMED_MAX)]
    assert result["error"]["count"] == 2 * ROWS_NAMED_MAX


def test_a_failure_is_what_crosses_the_queue() -> None:
    assert failure(PredictionError("code", "message")) == {
        "error": {"code": "code", "message": "message", "rows": [], "count": 0}
    }


def test_a_batch_without_a_computation_has_errors_only_and_counts_nothing() -> None:
    metrics = WorkerMetrics()
    batch = BatchResult([expired()])

    batch.count(metrics)

    assert batch.with_outputs() == [expired()]
    assert batch.compute_seconds == 0.0
    assert samples(metrics.predictions, metrics.batch_rows) == {}
