import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from headrace.exporting.exporter import export
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from worker.model import bisection, examination
from worker.model.examination import LINES_MAX
from worker.model.predictor import Predictor

Exported = Callable[[str], tuple[ModelStore, Manifest]]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelStore, Manifest]:
    """A classifier of the texts `town` and `street` that refuses texts which it has not seen, and of a number."""
    store = ModelStore(tmp_path_factory.mktemp("models"))
    frame = pd.DataFrame({"town": ["Oslo", "Lyon"] * 20, "street": ["long", "wide"] * 20, "age": range(40)})
    encoder = ColumnTransformer([("texts", OneHotEncoder(), ["town", "street"])], remainder="passthrough")
    estimator = make_pipeline(encoder, LogisticRegression(max_iter=1000)).fit(frame, ["yes", "no"] * 20)
    return store, export(estimator, frame, store=store, name="towns", scores={}).manifest


@pytest.fixture
def towns(refusing: tuple[ModelStore, Manifest]) -> Predictor:
    return Predictor.load(*refusing)


KNOWN = ["Oslo", "long", 1.0]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (["Secret", "long", 1.0], "town"),
        (["Oslo", "Secret", 1.0], "street"),
        (["Secret", "Secret", 1.0], "town, street"),
        (["Secret", "Secret", 10.0], "town, street"),
    ],
)
def test_the_columns_to_blame_are_named_and_no_values(
    towns: Predictor, caplog: pytest.LogCaptureFixture, row: Any, columns: str
) -> None:
    answer = towns.predict([KNOWN, row, KNOWN])

    assert (answer.failures[1].code, answer.failures[1].message) == ("row_rejected", "the model raised ValueError")
    assert answer.predictions == ["yes", None, "yes"]
    [record] = caplog.records
    assert record.message.endswith(f": 1 rows failed as row_rejected: the model raised ValueError because of {columns}")


def test_a_slow_model_is_not_asked_for_columns(
    towns: Predictor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "SECONDS_MAX", -1)

    towns.predict([["Secret", "long", 1.0]])

    assert caplog.records[0].message.endswith("the model raised ValueError")


def test_an_overflow_of_finite_values_is_the_rows(exported: Exported) -> None:
    store, manifest = exported("ridge")
    ends = [1.7e308 * np.sign(each) for each in Predictor.load(store, manifest)._estimator.coef_]

    answer = Predictor.load(store, manifest).predict([ends])

    assert answer.failures[0].code == "row_rejected"


def test_ten_thousand_bad_rows_end_quickly_with_one_traceback(
    towns: Predictor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bisection, "SECONDS_MAX", 0.5)
    rows = [[f"Secret {at}", "long", 1.0] for at in range(10_000)]
    started = time.process_time()

    answer = towns.predict([KNOWN, *rows, KNOWN], [1, 10_000, 1])

    assert time.process_time() - started < 5
    assert (answer.predictions[0], answer.predictions[-1]) == ("yes", "yes")
    assert answer.failures.keys() == {*range(1, 10_001)}
    assert {error.code for error in answer.failures.values()} == {"row_rejected"}
    assert len(answer.untried) < 10_000
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_flood_of_bad_batches_writes_few_lines_and_counts_the_others(
    towns: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [100.0]
    towns._examiner._limit._clock = lambda: clock[0]

    for _ in range(50):
        towns.predict([["Secret", "long", 1.0]])
    assert len(caplog.records) == LINES_MAX

    clock[0] += examination.PERIOD_SECONDS
    towns.predict([["Secret", "long", 1.0]])
    assert caplog.records[-1].message.endswith(f"because of town, and {50 - LINES_MAX} more before")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
