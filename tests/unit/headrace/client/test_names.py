"""Rows without names of features: the client asks the gateway for them."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from headrace import Client
from headrace.client.errors import InvalidRequest, UnusableRows
from tests.unit.headrace.client.test_client import problem


class Server:
    """A gateway whose model has these features now; keeps the paths and the rows that were sent."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked: list[str] = []
        self.rows: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.method == "GET":
            features = [{"name": name, "type": "number"} for name in self.names]
            return httpx.Response(200, json={"name": "m", "version": "v", "features": features})
        body = json.loads(request.content)
        self.rows.append(body)
        rows = body.get("instances", [body])
        if any(list(row) != self.names for row in rows):
            return problem(422, "invalid_rows", errors=[{"pointer": "/instances/0", "detail": "this is no feature"}])
        if request.url.path.endswith("jobs"):
            return httpx.Response(202, json={"id": "j1"})
        several = {"predictions": [1] * len(rows)}
        return httpx.Response(200, json=several if "instances" in body else {"prediction": 1})

    def client(self) -> Client:
        return Client("http://gateway", transport=httpx.MockTransport(self))


def test_an_array_gets_the_names_of_the_features_which_are_asked_for_once() -> None:
    gateway = Server("a", "b")
    client = gateway.client()

    assert client.predict(np.array([[1.0, 2.0], [3.0, 4.0]])) == {"predictions": [1, 1]}
    assert client.predict(np.array([5, 6])) == {"prediction": 1}
    client.predict([[7, 8]])
    client.submit([[9, 9]])

    assert gateway.asked == ["/model-info", "/predict", "/predict", "/predict", "/jobs"]
    assert gateway.rows[:2] == [{"instances": [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]}, {"a": 5, "b": 6}]


def test_each_model_and_version_has_names_of_its_own() -> None:
    gateway = Server("a")
    client = gateway.client()

    for version in (None, "v1", "v1"):
        client.predict([[1.0]], "m", version)

    described = [path for path in gateway.asked if "predict" not in path]
    assert described == ["/models/m", "/models/m/versions/v1"]


@pytest.mark.parametrize("names", [["a", "c"], ["a", "b", "c"]])
def test_an_alias_that_has_moved_to_other_features_is_noticed(names: list[str]) -> None:
    gateway = Server("a", "b")
    client = gateway.client()
    client.predict([[1.0, 2.0]])

    gateway.names = names
    row = [float(at) for at in range(len(names))]

    assert client.predict([row]) == {"predictions": [1]}
    assert gateway.rows[-1] == {"instances": [dict(zip(names, row, strict=True))]}
    asked = len(gateway.asked)
    client.predict([row])
    assert len(gateway.asked) == asked + 1, "the new names are kept"


def test_rows_that_fit_no_names_are_an_error() -> None:
    gateway = Server("a", "b")
    client = gateway.client()

    for _ in range(2):
        with pytest.raises(UnusableRows, match="row 1 has 3 values, and the model has 2 features"):
            client.predict([[1.0, 2.0], [1.0, 2.0, 3.0]])
    assert gateway.rows == [], "none is sent"


@pytest.mark.parametrize(("code", "descriptions"), [("invalid_rows", 2), ("row_rejected", 1)])
def test_rows_that_are_refused_by_the_same_names_are_not_sent_again(code: str, descriptions: int) -> None:
    gateway = Server("a")
    predicted: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return gateway(request)
        predicted.append(request)
        return httpx.Response(200, json={"predictions": [1]}) if len(predicted) == 1 else problem(422, code)

    client = Client("http://gateway", transport=httpx.MockTransport(refuse))
    client.predict([[1.0]])
    with pytest.raises(InvalidRequest):
        client.predict([[1.0]])

    assert (len(predicted), len(gateway.asked)) == (2, descriptions)
