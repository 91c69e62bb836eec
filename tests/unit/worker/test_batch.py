from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from shared.contract import ErrorCode
from shared.errors import PredictionError
from shared.model_store import ModelStore
from tests.unit.worker.conftest import Publish
from worker.batch import expired, predict_calls
from worker.predictor import Predictor


@pytest.fixture
def predictor(store: ModelStore, publish: Publish) -> Predictor:
    return Predictor.load(store, publish("m"))


GOOD = [5.0, 3.4, 1.5, 0.2]
BAD = ["text", 0.0, 0.0, 0.0]


def test_every_call_gets_its_own_rows(predictor: Predictor) -> None:
    results, answer = predict_calls(predictor, [[GOOD], [[6.5, 3.0, 5.8, 2.2], GOOD], []])

    assert [result["predictions"] for result in results] == [["setosa"], ["virginica", "setosa"], []]
    assert [len(result["probabilities"]) for result in results] == [1, 2, 0]
    assert answer.predictions == ["setosa", "virginica", "setosa"]


def test_a_bad_row_fails_its_call_only_and_is_named_by_its_place_in_it(predictor: Predictor) -> None:
    results, answer = predict_calls(predictor, [[GOOD], [GOOD, BAD, GOOD, BAD], [GOOD]])

    assert results[0]["predictions"] == results[2]["predictions"] == ["setosa"]
    assert results[1] == {
        "error": {"code": "prediction_failed", "message": "the model raised ValueError", "rows": [1, 3]}
    }
    assert list(answer.failures) == [2, 4]


def test_a_model_without_probabilities_has_none(store: ModelStore, publish: Publish) -> None:
    rows = np.array([[0.0], [1.0]])
    predictor = Predictor.load(store, publish("m", estimator=Ridge().fit(rows, [0.0, 1.0]), rows=rows))

    results, _ = predict_calls(predictor, [[[0.5]]])

    assert results == [{"predictions": [pytest.approx(0.5)], "probabilities": None}]


def test_a_call_whose_deadline_passed_has_its_code() -> None:
    error: Any = expired()["error"]

    assert error["code"] == ErrorCode.DEADLINE_EXCEEDED.value
    assert PredictionError(**error).rows == []
