"""`/predict` against scikit-learn itself."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.queue import keys
from tests.support.processes import wait_for
from tests.support.stack import Stack

NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SETOSA = dict(zip(NAMES, [5.1, 3.5, 1.4, 0.2], strict=True))


@pytest.fixture(scope="module")
def rows() -> list[list[float]]:
    data: list[list[float]] = load_iris().data.tolist()
    return data


@pytest.fixture(scope="module")
def expected(iris_models: Path, iris: Manifest, rows: list[list[float]]) -> tuple[list[str], np.ndarray[Any, Any]]:
    estimator = joblib.load(io.BytesIO(ModelStore(iris_models).artifact(iris)))
    return estimator.predict(np.array(rows)).tolist(), estimator.predict_proba(np.array(rows))


def as_row(values: list[float]) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True))


def test_all_iris_rows_one_by_one(stack: Stack, rows: list[list[float]], expected: Any) -> None:
    labels, probabilities = expected
    for values, label, shares in zip(rows, labels, probabilities, strict=True):
        answer = stack.predict(as_row(values)).json()
        assert answer["prediction"] == label
        assert list(answer["probabilities"].values()) == pytest.approx(shares, abs=1e-9)


def test_all_iris_rows_at_once(stack: Stack, rows: list[list[float]], expected: Any) -> None:
    labels, probabilities = expected
    answer = stack.predict([as_row(values) for values in rows]).json()
    assert answer["predictions"] == labels
    assert np.array([list(row.values()) for row in answer["probabilities"]]) == pytest.approx(probabilities, abs=1e-9)


def test_a_hundred_parallel_callers_each_get_their_own(stack: Stack, rows: list[list[float]], expected: Any) -> None:
    labels, probabilities = expected

    def call(i: int) -> tuple[int, dict[str, Any]]:
        answer = httpx.post(f"{stack.url}/predict", json=as_row(rows[i]), timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        return i, answer.json()

    with ThreadPoolExecutor(100) as pool:
        for i, answer in pool.map(call, range(100)):
            assert answer["prediction"] == labels[i]
            assert list(answer["probabilities"].values()) == pytest.approx(probabilities[i], abs=1e-9)


def test_order_of_members_and_whole_numbers_do_not_matter(stack: Stack) -> None:
    shuffled = {"petal_width": 2, "sepal_length": 6, "petal_length": 5, "sepal_width": 3}
    sorted_row = {name: float(shuffled[name]) for name in NAMES}
    assert stack.predict(shuffled).json()["probabilities"] == stack.predict(sorted_row).json()["probabilities"]


def test_answer_says_which_model_and_where_the_time_went(stack: Stack, iris: Manifest) -> None:
    response = stack.predict(SETOSA, headers={"X-Request-ID": "mine-1"})
    answer = response.json()
    assert (answer["model"], answer["version"]) == ("iris", iris.version)
    assert response.headers["x-request-id"] == "mine-1"
    timing = answer["timing"]
    header = dict(re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"]))
    assert {f"{name}_ms": float(value) for name, value in header.items()} == timing
    assert 0 < timing["compute_ms"] < timing["total_ms"]
    # Queue and total are read from two clocks, which agree within their round trips.
    assert timing["queue_ms"] < timing["total_ms"] + 5


def test_a_request_id_that_could_hurt_a_log_is_replaced(stack: Stack) -> None:
    response = stack.predict(SETOSA, headers={"X-Request-ID": "a b\tc"})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize("prefer", ["respond-async", "wait=0"])
def test_prefer_hands_over_to_a_job(stack: Stack, prefer: str) -> None:
    response = stack.predict(SETOSA, headers={"Prefer": prefer})
    assert response.headers["preference-applied"] == prefer
    if response.status_code == 202:
        job = stack.outcome(response.headers["location"].removeprefix("/jobs/"))
        assert job["result"]["prediction"] == "setosa"
    else:
        assert response.json()["prediction"] == "setosa"


def test_prefer_wait_answers_like_predict_when_there_is_time(stack: Stack) -> None:
    response = stack.predict(SETOSA, headers={"Prefer": "wait=10"})
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=10"
    assert response.json()["prediction"] == "setosa"
    assert stack.http.get(response.headers["content-location"]).json()["status"] == "succeeded"


def test_openapi_has_the_models_schema_and_examples_that_work(stack: Stack) -> None:
    document = stack.http.get("/openapi.json").json()
    of_models = {f"/models/{{name}}{version}" for version in ("", "/versions/{version}")}
    assert set(document["paths"]) == {
        *("/predict", "/jobs", "/jobs/{job_id}", "/models", "/model-info"),
        *of_models,
        *(f"{path}/{action}" for path in of_models for action in ("predict", "jobs", "card")),
        "/models/{name}/openapi.json",
        *("/health", "/livez", "/readyz", "/metrics", "/scaling", "/ping", "/invocations"),
        *(f"/v1{path}{verb}" for path in of_models for verb in ("", ":predict")),
        "/v1/models",
        *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/stats", "/v2/repository/index"),
        *(f"/v2{path}{action}" for path in of_models for action in ("", "/ready", "/config", "/stats", "/infer")),
        *(f"/v2/repository/models/{{name}}/{action}" for action in ("load", "unload")),
    }
    one, many = document["components"]["schemas"]["Rows"]["oneOf"]
    assert list(one["properties"]) == NAMES
    assert list(many["properties"]) == ["instances"]
    examples = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        assert stack.http.post("/predict", json=example["value"]).status_code == 200
    assert stack.http.get("/docs").status_code == 200


def test_model_info_is_the_manifest_and_who_has_it_loaded(stack: Stack, iris: Manifest) -> None:
    info = stack.http.get("/model-info").json()
    assert info["version"] == iris.version
    assert [feature["name"] for feature in info["features"]] == NAMES
    assert len(info["loaded_by"]) == 1


def test_health_tells_what_is_there(stack: Stack) -> None:
    health = stack.http.get("/health").json()
    assert health["status"] == "ok"
    assert health["workers"] == {"live": 1, "slots": 2}
    assert stack.status("/livez") == 200


def test_replies_are_read_also_when_their_ids_became_smaller(stack: Stack) -> None:
    """The ids are times of Redis' clock: it was set back, and the stream of replies was lost."""
    assert stack.predict(SETOSA).status_code == 200
    [replies] = stack.redis.keys(keys.replies("*"))
    read = stack.gateway.log().count("dropped a reply")
    stack.redis.xadd(replies, {"reply": "none"}, id="99999999999999-0")
    wait_for("it is read", lambda: stack.gateway.log().count("dropped a reply") > read)
    stack.redis.delete(replies)

    # Whoever reads on from the old id would read no reply again, and answer 504.
    for _ in range(2):
        assert stack.predict(SETOSA).status_code == 200
