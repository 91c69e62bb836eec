"""`POST /invocations` gets the predictions of the estimator itself from tables of every form."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.integration.conftest import NewStack
from tests.integration.test_any_model import as_json, assert_same, some_rows
from tests.support.exported import Exported, fitted, model_name
from tests.support.exported import exported as exported
from tests.support.stack import Stack


def as_csv(records: list[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    lines = csv.DictWriter(file, list(records[0]))
    lines.writeheader()
    lines.writerows(records)
    return file.getvalue().encode()


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pd.DataFrame(records).to_parquet(file)
    return file.getvalue()


def predictions(stack: Stack, body: bytes, media_type: str) -> Any:
    response = stack.http.post("/invocations", content=body, headers={"Content-Type": media_type})
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


@pytest.mark.parametrize("name", ["naive bayes", "mixed frame", "boosting with gaps", "several numbers"])
def test_csv_and_parquet_get_the_predictions_of_the_estimator(
    new_stack: NewStack, exported: Exported, name: str
) -> None:
    each, (store, manifest) = fitted(name), exported(name)
    stack = new_stack(Path(store.root), DEFAULT_MODEL=model_name(name)).start()
    rows = some_rows(each)
    records = as_json(rows, [feature.name for feature in manifest.features])
    expected = each.estimator.predict(rows)

    assert_same(predictions(stack, as_csv(records), "text/csv"), expected)
    for media_type in ("application/vnd.apache.parquet", "application/x-parquet"):
        assert_same(predictions(stack, as_parquet(records), media_type), expected)

    if name == "naive bayes":
        chosen = np.random.default_rng(0).integers(0, len(each.X), 5_000)
        rows = np.asarray(each.X)[chosen]
        records = as_json(rows, [feature.name for feature in manifest.features])
        assert_same(predictions(stack, as_parquet(records), "application/x-parquet"), each.estimator.predict(rows))


def test_a_file_that_is_no_table_of_the_model_is_refused(stack: Stack) -> None:
    headers = {"Content-Type": "application/x-parquet"}

    for body, pointer in ((b"PAR1", ""), (as_parquet([{"nothing": 1.0}]), "/0/nothing")):
        refused = stack.http.post("/invocations", content=body, headers=headers)
        assert refused.status_code == 422
        assert [each["pointer"] for each in refused.json()["errors"]] == [pointer]
    assert stack.http.post("/predict", content=b"PAR1", headers=headers).status_code == 415
