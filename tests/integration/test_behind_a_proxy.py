"""A gateway under a path, asked with gzip and from pages of another origin, as a proxy in front of it would ask."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import Client
from tests.support.stack import Stack

ROW = {"sepal_length": 6.1, "sepal_width": 2.8, "petal_length": 4.7, "petal_width": 1.2}
MANY = {"instances": [ROW] * 2_000}
PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, iris_models: Path) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("proxied"),
        iris_models,
        ROOT_PATH="/ml",
        TRUSTED_PROXIES="127.0.0.0/8",
        CORS_ORIGINS=PAGE,
        PREDICT_DEADLINE_SECONDS="30",
    )
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.mark.parametrize(("headers", "prefix"), [({}, "/ml"), ({"X-Forwarded-Prefix": "/fraud/"}, "/fraud")])
@pytest.mark.parametrize("path", ["/jobs", "/models/iris/jobs", "/ml/jobs"])
def test_a_job_is_where_its_caller_sees_the_gateway(
    proxied: Stack, path: str, headers: dict[str, str], prefix: str
) -> None:
    response = proxied.http.post(path, json=ROW, headers=headers)

    assert response.status_code == 202
    assert response.headers["Location"] == f"{prefix}/jobs/{response.json()['id']}"


def test_a_prediction_that_becomes_a_job_is_there_too(proxied: Stack) -> None:
    response = proxied.http.post("/ml/predict", json=ROW, headers={"Prefer": "respond-async"})

    assert (response.status_code, response.headers["Location"]) == (202, f"/ml/jobs/{response.json()['id']}")
    assert proxied.http.get(response.headers["Location"], params={"wait": 30}).json()["status"] == "succeeded"


def test_the_client_works_under_the_path(proxied: Stack) -> None:
    with Client(f"{proxied.url}/ml") as client:
        assert client.predict(ROW)["prediction"] == "versicolor"
        assert client.submit(ROW).result()["prediction"] == "versicolor"
        assert client.predict([ROW] * 2_000)["predictions"] == ["versicolor"] * 2_000


def raw_answer(stack: Stack, method: str, path: str, body: Any = None, **headers: str) -> tuple[httpx.Headers, bytes]:
    """Return the headers and the body of an answer as they came, still packed."""
    content = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **headers}
    with stack.http.stream(method, path, content=content, headers=given) as response:
        assert response.status_code == 200, response.read()
        return response.headers, b"".join(response.iter_raw())


@pytest.mark.parametrize("n_rows", [1, 1_000, 2_000])
def test_a_large_answer_is_packed_for_those_who_ask_for_it(proxied: Stack, n_rows: int) -> None:
    body = {"instances": [ROW] * n_rows}
    headers, content = raw_answer(proxied, "POST", "/predict", body, **{"Accept-Encoding": "gzip"})
    assert int(headers["Content-Length"]) == len(content)
    if n_rows > 1:
        assert headers["Content-Encoding"] == "gzip"
        content = gzip.decompress(content)
    assert json.loads(content)["predictions"] == ["versicolor"] * n_rows

    headers, content = raw_answer(proxied, "POST", "/predict", body, **{"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers
    assert json.loads(content)["predictions"] == ["versicolor"] * n_rows


def test_a_large_result_of_a_job_is_packed(proxied: Stack) -> None:
    job = proxied.submit(MANY["instances"])
    proxied.outcome(job)

    for method in ("GET", "HEAD"):
        headers, packed = raw_answer(proxied, method, f"/jobs/{job}", **{"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] == "gzip"
        if method == "GET":
            assert json.loads(gzip.decompress(packed))["result"]["predictions"] == ["versicolor"] * 2_000


@pytest.mark.parametrize("n_rows", [1, 2_000])
@pytest.mark.parametrize("path", ["/predict", "/ml/predict"])
def test_a_gzip_body_is_answered_like_a_plain_one(proxied: Stack, path: str, n_rows: int) -> None:
    body = gzip.compress(json.dumps({"instances": [ROW] * n_rows}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    answer = proxied.http.post(path, content=body, headers=headers)

    assert answer.json()["predictions"] == ["versicolor"] * n_rows


def test_a_page_of_another_origin_may_predict(proxied: Stack) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert proxied.http.options("/ml/predict", headers=asked).status_code == 204

    for origin, admitted in ((PAGE, PAGE), ("https://evil.example.com", None)):
        answer = proxied.http.post("/ml/predict", json=ROW, headers={"Origin": origin})
        assert answer.status_code == 200
        assert answer.headers.get("Access-Control-Allow-Origin") == admitted
