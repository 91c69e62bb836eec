"""Over the protocols of other servers, callers get the predictions of the estimator itself."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.models.fields import class_key
from headrace.models.manifest import Manifest
from tests.integration.conftest import NewStack
from tests.integration.test_any_model import as_json, assert_same, some_rows
from tests.integration.test_any_model import stack as stack
from tests.support.api_keys import new_key
from tests.support.estimators import CASES
from tests.support.exported import Exported, fitted, model_name
from tests.support.exported import exported as exported
from tests.support.processes import PATIENCE_SECONDS, REPOSITORY
from tests.support.requirements import require
from tests.support.stack import Stack
from tests.support.tensors import binary_body, outputs_of, tensor

DATATYPES = {"number": "FP64", "boolean": "BOOL", "string": "BYTES"}


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
    "body",
    [
        [[1, 2]],
        {"inputs": [[1, 2]]},
        {"instances": [[1, 2]]},
        {"instances": [1, 2]},
        {"signature_name": "serving_default", "instances": [[1, 2]]},
        {"dataframe_split": {"columns": [], "data": []}},
        {"data": {}},
    ],
    ids=str,
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
        assert "no model nothing" in answers[-2]
        assert "the outputs of this model are" in answers[-1]


def test_the_examples_of_the_documentation_run(new_stack: NewStack, iris_models: Path) -> None:
    require(shutil.which("curl") is not None, "curl is not installed")
    stack = new_stack(iris_models).start()
    page = (REPOSITORY / "docs/other-clients.md").read_text()
    (command,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    address = stack.url.removeprefix("http://")

    ran = subprocess.run(
        ["sh", "-c", command.replace("127.0.0.1:8000", address)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert json.loads(ran.stdout)["outputs"][0]["data"] == ["setosa"]
    ran = subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:8000", address)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.stdout.startswith("[b'setosa' b'virginica'] [["), ran


@pytest.mark.parametrize(
    ("language", "file", "command"),
    [("js", "iris.mjs", "node"), ("java", "Iris.java", "java"), ("go", "iris.go", "go run")],
)
def test_the_programs_of_other_languages_run_and_name_the_error(
    shared_stack: Stack, tmp_path: Path, language: str, file: str, command: str
) -> None:
    program, *words = command.split()
    require(shutil.which(program) is not None, f"{program} is not installed")
    [code] = re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / "docs/other-clients.md").read_text(), re.DOTALL)
    assert f"`{command} {file}`" in (REPOSITORY / "docs/other-clients.md").read_text()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GOCACHE": str(tmp_path / "cache")}

    def ran(code: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / file).write_text(code.replace("http://127.0.0.1:8000", shared_stack.url))
        return subprocess.run(
            [program, *words, file], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )

    answered = ran(code)
    assert (answered.returncode, answered.stderr) == (0, "")
    assert re.findall("setosa|virginica|versicolor", answered.stdout) == ["setosa", "virginica"]
    refused = ran(code.replace("/v2/models/iris/", "/v2/models/nothing/"))
    assert refused.returncode != 0
    assert "404" in refused.stderr and "no model nothing" in refused.stderr


def test_a_timeout_is_a_deadline(new_stack: NewStack, iris_models: Path) -> None:
    stack = new_stack(iris_models).start_without_workers()
    body = {"inputs": [tensor("x", "FP64", [1.0] * 4, [1, 4])], "parameters": {"timeout": 500_000}}

    late = stack.http.post("/v2/models/iris/infer", json=body)

    assert (late.status_code, late.headers["content-type"]) == (503, "application/json")
    assert late.json()["error"] == late.json()["detail"] == "no worker is running"
    for timeout in (0, -1, 1.5, "1", True):
        refused = stack.http.post("/v2/models/iris/infer", json={**body, "parameters": {"timeout": timeout}})
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:headrace:problem:invalid_tensors")


def test_routes_of_other_servers_ask_for_keys(new_stack: NewStack, iris_models: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    predict, read = new_key(keys, "one", "--scope", "predict"), new_key(keys, "two", "--scope", "read")
    stack = new_stack(iris_models, API_KEYS_FILE=str(keys)).start()
    body = {"inputs": [tensor("x", "FP64", [1.0] * 4, [1, 4])]}
    rows = {"instances": [[1.0] * 4]}

    def statuses(method: str, path: str, content: Any = None) -> list[int]:
        return [stack.http.request(method, path, json=content, headers=key).status_code for key in ({}, predict, read)]

    assert statuses("POST", "/v2/models/iris/infer", body) == [401, 200, 403]
    assert statuses("POST", "/v1/models/iris:predict", rows) == [401, 200, 403]
    assert statuses("POST", "/invocations", rows) == [401, 200, 403]
    of_models = ("", "/stats", "/iris", "/iris/config", "/iris/stats")
    for path in ("/v1/models", "/v1/models/iris", "/v2", *(f"/v2/models{each}" for each in of_models)):
        assert statuses("GET", path) == [401, 403, 200]
    for path in ("/v2/repository/index", "/v2/repository/models/iris/load"):
        assert statuses("POST", path) == [401, 403, 200]
    for path in ("/v2/health/live", "/v2/health/ready", "/ping"):
        assert statuses("GET", path) == [200, 200, 200]
