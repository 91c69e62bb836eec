"""Every kind of estimator through HTTP and the queue: callers get the predictions of the estimator itself."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.estimators import CASES, Case
from tests.support.exported import Exported, fitted, model_name
from tests.support.exported import exported as exported
from tests.support.processes import PATIENCE_SECONDS
from tests.support.stack import Stack

ROWS = 12


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[Stack]:
    [root] = {exported(name)[0].root for name in CASES}
    stack = Stack(tmp_path_factory.mktemp("stack"), Path(root), DEFAULT_MODEL=model_name(next(iter(CASES))))
    try:
        yield stack.start()
    finally:
        stack.close()


def some_rows(each: Case) -> Any:
    """Return ROWS rows spread over the training data, in the form that the estimator takes."""
    positions = np.linspace(0, len(each.X) - 1, ROWS).astype(int)
    return each.X.iloc[positions] if hasattr(each.X, "iloc") else np.asarray(each.X)[positions]


def as_json(rows: Any, names: list[str]) -> list[dict[str, Any]]:
    """Return the rows as a caller would send them: without the columns that the estimator drops."""

    def plain(value: Any) -> Any:
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            return None
        return value.item() if isinstance(value, np.generic) else value

    if isinstance(rows, pd.DataFrame):
        rows = rows[names]
    values = rows.astype(object).to_numpy() if hasattr(rows, "iloc") else rows
    values = values.reshape(len(rows), -1)
    return [dict(zip(names, map(plain, row), strict=True)) for row in values.tolist()]


def assert_same(answers: list[Any], predictions: Any) -> None:
    """Compare answers with predictions: labels and their JSON types are equal, numbers agree within 1e-9.

    Several outputs are an object by name in an answer.
    """
    for answer, expected in zip(answers, np.asarray(predictions).tolist(), strict=True):
        for value, wanted in zip(
            answer.values() if isinstance(answer, dict) else [answer],
            expected if isinstance(expected, list) else [expected],
            strict=True,
        ):
            if isinstance(wanted, float):
                assert value == pytest.approx(wanted, rel=1e-9, abs=1e-9)
            else:
                assert (value, type(value)) == (wanted, type(wanted))


@pytest.mark.parametrize("name", CASES)
def test_http_answers_what_the_estimator_says(stack: Stack, exported: Exported, name: str) -> None:
    each, (_, manifest), name = fitted(name), exported(name), model_name(name)
    rows = some_rows(each)
    instances = as_json(rows, [feature.name for feature in manifest.features])
    response = stack.http.post(f"/models/{name}/predict", json={"instances": instances})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert_same(answer["predictions"], each.estimator.predict(rows))
    assert ("probabilities" in answer) == manifest.probabilities
    if manifest.probabilities and len(manifest.outputs) == 1:
        shares = [list(row.values()) for row in answer["probabilities"]]
        assert np.array(shares) == pytest.approx(each.estimator.predict_proba(rows), abs=1e-9)
        assert list(answer["probabilities"][0]) == [
            label if isinstance(label, str) else json.dumps(label) for label in manifest.outputs[0].classes or []
        ]
    elif manifest.probabilities:
        probabilities = each.estimator.predict_proba(rows)
        # For multilabel targets scikit-learn returns one column per label: the probability that the label is there.
        if not isinstance(probabilities, list):
            probabilities = [np.column_stack([1 - column, column]) for column in probabilities.T]
        for output, expected in zip(manifest.outputs, probabilities, strict=True):
            shares = [list(row[output.name].values()) for row in answer["probabilities"]]
            assert np.array(shares) == pytest.approx(expected, abs=1e-9)

    single = stack.http.post(f"/models/{name}/predict", json=instances[0]).json()
    assert_same([single["prediction"]], each.estimator.predict(rows[:1]))
    job = stack.outcome(stack.http.post(f"/models/{name}/jobs", json={"instances": instances}).json()["id"])
    assert job["status"] == "succeeded"
    assert_same(job["result"]["predictions"], each.estimator.predict(rows))


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 15


def test_ten_thousand_rows_of_all_types_are_answered_like_the_estimator_does(stack: Stack, exported: Exported) -> None:
    people = fitted("mixed frame")
    chosen = np.random.default_rng(0).integers(0, len(people.X), 10_000)
    rows = people.X.iloc[chosen]
    instances = as_json(rows, [feature.name for feature in exported("mixed frame")[1].features])
    assert {type(value) for row in instances for value in row.values()} >= {float, str, bool, type(None)}

    url = f"/models/mixed-frame/predict?deadline={PATIENCE_SECONDS:g}"
    answer = stack.http.post(url, json={"instances": instances}, timeout=PATIENCE_SECONDS).json()

    assert_same(answer["predictions"], people.estimator.predict(rows))
    shares = np.array([list(row.values()) for row in answer["probabilities"]])
    assert shares == pytest.approx(people.estimator.predict_proba(rows), abs=1e-9)
