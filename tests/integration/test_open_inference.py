"""Over the protocols of other servers, callers get the predictions of the estimator itself."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.models.manifest import Manifest, class_key
from tests.integration.test_any_model import as_json, assert_same, some_rows
from tests.support.estimators import CASES
from tests.support.exported import Exported, fitted, model_name
from tests.support.exported import exported as exported
from tests.support.processes import PATIENCE_SECONDS, REPOSITORY
from tests.support.stack import Stack
from tests.support.tensors import binary_body, outputs_of, tensor

DATATYPES = {"number": "FP64", "boolean": "BOOL", "string": "BYTES"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[Stack]:
    [root] = {exported(name)[0].root for name in CASES}
    stack = Stack(tmp_path_factory.mktemp("stack"), Path(root), DEFAULT_MODEL=model_name(next(iter(CASES))))
    try:
        yield stack.start()
    finally:
        stack.close()


def columns_of(manifest: Manifest, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        tensor(each.name, DATATYPES[each.type], [row[each.name] for row in instances]) for each in manifest.features
    ]


def assert_answers(outputs: dict[str, Any], manifest: Manifest, estimator: Any, rows: Any) -> None:
    """Compare outputs with what the estimator says of the rows."""
    expected = np.asarray(estimator.predict(rows))
    if "predict" in outputs:
        found = outputs["predict"]
    else:
        found = np.column_stack([outputs[f"predict.{output.name}"] for output in manifest.outputs])
    if found.dtype == object:
        keys = np.frompyfunc(lambda value: class_key(value.item() if isinstance(value, np.generic) else value), 1, 1)
        assert found.tolist() == keys(expected).tolist()
    else:
        assert found.astype(float) == pytest.approx(expected.reshape(found.shape).astype(float), rel=1e-9, abs=1e-9)
    if not manifest.probabilities:
        assert not any(name.startswith("predict_proba") for name in outputs)
        return
    probabilities = estimator.predict_proba(rows)
    if len(manifest.outputs) == 1:
        probabilities = [probabilities]
    elif not isinstance(probabilities, list):
        probabilities = [np.column_stack([1 - column, column]) for column in probabilities.T]
    for output, shares in zip(manifest.outputs, probabilities, strict=True):
        name = "predict_proba" if len(manifest.outputs) == 1 else f"predict_proba.{output.name}"
        assert outputs[name] == pytest.approx(shares, abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_every_estimator_answers_tensors(stack: Stack, exported: Exported, name: str) -> None:
    each, (_, manifest), name = fitted(name), exported(name), model_name(name)
    rows, url = some_rows(each), f"/v2/models/{name}/infer"
    columns = columns_of(manifest, as_json(rows, [feature.name for feature in manifest.features]))

    by_column = outputs_of(stack.http.post(url, json={"inputs": columns}))
    assert_answers(by_column, manifest, each.estimator, rows)

    # In bytes, NaN stands for a missing number. There are no missing texts and booleans.
    if all(None not in column["data"] for column in columns if column["datatype"] != "FP64"):
        nan = [{**each, "data": [math.nan if value is None else value for value in each["data"]]} for each in columns]
        body, headers = binary_body(nan, parameters={"binary_data_output": True})
        in_bytes = stack.http.post(f"/v2/models/{name}/versions/v1/infer", content=body, headers=headers)
        assert_answers(outputs_of(in_bytes), manifest, each.estimator, rows)

    if all(column["datatype"] == "FP64" for column in columns):
        values = np.array([column["data"] for column in columns], dtype=object).T
        table = tensor("input-0", "FP64", values.ravel().tolist(), values.shape)
        assert_answers(outputs_of(stack.http.post(url, json={"inputs": [table]})), manifest, each.estimator, rows)
        nested = {**table, "data": values.tolist()}
        assert_answers(outputs_of(stack.http.post(url, json={"inputs": [nested]})), manifest, each.estimator, rows)


def test_ten_thousand_rows_in_bytes_are_answered_like_the_estimator_does(stack: Stack, exported: Exported) -> None:
    wine = fitted("naive bayes")
    chosen = np.random.default_rng(0).integers(0, len(wine.X), 10_000)
    rows = np.asarray(wine.X)[chosen]
    body, headers = binary_body(
        [tensor("rows", "FP64", rows.ravel().tolist(), rows.shape)], parameters={"binary_data_output": True}, id="many"
    )

    response = stack.http.post(f"/v2/models/{model_name('naive bayes')}/infer", content=body, headers=headers)

    assert_answers(outputs_of(response), exported("naive bayes")[1], wine.estimator, rows)


@pytest.mark.parametrize("name", CASES)
def test_every_estimator_answers_lists_of_values(stack: Stack, exported: Exported, name: str) -> None:
    each, (_, manifest), name = fitted(name), exported(name), model_name(name)
    rows, names = some_rows(each), [feature.name for feature in manifest.features]
    instances = as_json(rows, names)

    for body in ({"instances": instances}, {"instances": [[*row.values()] for row in instances]}):
        answer = stack.http.post(f"/v1/models/{name}:predict", json=body).json()
        assert answer.keys() == {"predictions"}
        assert_same(answer["predictions"], each.estimator.predict(rows))


def test_the_default_model_answers_invocations(stack: Stack, exported: Exported) -> None:
    name = next(iter(CASES))
    each, (_, manifest) = fitted(name), exported(name)
    rows, names = some_rows(each), [feature.name for feature in manifest.features]
    records = as_json(rows, names)
    lists = [[*row.values()] for row in records]
    csv = "\n".join([",".join(names), *(",".join(map(str, row)) for row in lists)])
    split = {"columns": names, "data": lists}

    for body in ({"dataframe_split": split}, {"dataframe_records": records}, {"inputs": lists}):
        answer = stack.http.post("/invocations", json=body).json()
        assert_same(answer["predictions"], each.estimator.predict(rows))
    response = stack.http.post("/invocations", content=csv, headers={"Content-Type": "text/csv; charset=utf-8"})
    assert_same(response.json()["predictions"], each.estimator.predict(rows))
    assert stack.http.post("/invocations", content=csv, headers={"Content-Type": "text/plain"}).status_code == 415
    assert stack.status("/ping") == 200


@pytest.mark.parametrize(
    "body", [[[1, 2]], {"inputs": [[1, 2]]}, {"dataframe_split": {"columns": [], "data": []}}, {"data": {}}], ids=str
)
def test_a_body_of_another_server_is_shown_the_right_form(stack: Stack, body: Any) -> None:
    refused = stack.http.post("/predict", json=body)

    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:headrace:problem:invalid_rows"
    assert stack.http.post("/predict", json=refused.json()["example"]).status_code == 200


def test_the_clients_of_triton_work_unchanged(stack: Stack, exported: Exported) -> None:
    names = ("neural network", "mixed frame", "several classes", "several numbers", "boosting with gaps", "prose")
    requests: list[dict[str, Any]] = []
    for name in names:
        manifest = exported(name)[1]
        columns = columns_of(manifest, as_json(some_rows(fitted(name)), [each.name for each in manifest.features]))
        if name == "mixed frame":
            # Arrays of NumPy have no missing texts.
            whole = [at for at in range(len(columns[0]["data"])) if all(c["data"][at] is not None for c in columns[2:])]
            columns = [{**c, "data": [c["data"][at] for at in whole], "shape": [len(whole), 1]} for c in columns]
        for each in columns:
            each["data"] = [math.nan if value is None else value for value in each["data"]]
        is_json = any(math.nan in each["data"] for each in columns)
        requests += [
            {"model": model_name(name), "version": version, "inputs": columns, "binary": binary}
            for binary in ({True} if is_json else {True, False})
            for version in ("", "v1", "latest")
        ]
    wrong = [{**requests[0], "model": "nothing"}, {**requests[0], "outputs": ["nothing"]}]
    asked = {"url": stack.url.removeprefix("http://"), "requests": [*requests, *wrong]}

    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.triton_caller"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=4 * PATIENCE_SECONDS,
    )

    assert ran.returncode == 0, ran.stderr
    for answers in json.loads(ran.stdout):
        for request, answer in zip(requests, answers, strict=False):
            body, headers = binary_body(request["inputs"])
            ours = stack.http.post(f"/v2/models/{request['model']}/infer", content=body, headers=headers)
            expected = {name: values.tolist() for name, values in outputs_of(ours).items()}
            assert answer.keys() == expected.keys()
            for name, values in answer.items():
                assert values == (expected[name] if name == "predict" else pytest.approx(np.array(expected[name])))
        assert "no such model" in answers[-2]
        assert "the outputs of this model are" in answers[-1]
