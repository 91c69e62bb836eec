"""A gateway in the process of the tests, and the input of commands."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

FEATURES = [
    {"name": "age", "type": "number", "nullable": True, "minimum": 18.0, "maximum": 90.0},
    {"name": "city", "type": "string", "nullable": True, "categories": ["Bern", "Köln"]},
    {"name": "paid", "type": "boolean", "nullable": False},
]

DESCRIPTION = {
    "name": "churn",
    "version": "v1",
    "description": "Will a customer go?",
    "estimator": "sklearn.pipeline.Pipeline",
    "training_rows": 120,
    "features": FEATURES,
    "outputs": [{"name": "prediction", "kind": "class", "classes": ["goes", "stays"]}],
    "scores": {"accuracy": 0.875},
    "aliases": {"latest": "v1", "production": "v1"},
    "loaded_by": ["worker-1"],
}

ROW = {"age": 42, "city": "Bern", "paid": True}

CELLS = ("age=42", "city=Bern", "paid=true")

Document = dict[str, Any]


def problem(status: int, code: str, **members: Any) -> httpx.Response:
    document = {"type": f"urn:headrace:problem:{code}", "title": "t", "status": status, "detail": "a reason", **members}
    return httpx.Response(status, json=document)


class FakeGateway:
    """A transport with the routes of a gateway; `answers` replaces one, by method and path."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: dict[str, Callable[[httpx.Request], httpx.Response]] = {}
        self.rows_max = 10_000
        self.submitted: dict[str, Document] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        route = f"{request.method} {request.url.path}"
        if route in self.answers:
            return self.answers[route](request)
        resource = request.url.path.rpartition("/")[2]
        if request.method == "POST" and resource == "predict":
            return self._predict(json.loads(request.content))
        if request.method == "POST" and resource == "jobs":
            return self._submit(request)
        if request.method == "GET" and request.url.path.startswith("/jobs/"):
            return self._job(resource)
        described = {"/models/churn", "/models/churn/versions/v1"}
        if route == "GET /models":
            listed = {"name": "other", "aliases": {}}, {"name": "churn", "default": True, "aliases": {"latest": "v1"}}
            return httpx.Response(200, json={"models": listed})
        if request.method == "GET" and request.url.path in described:
            return httpx.Response(200, json=DESCRIPTION)
        return problem(404, "unknown_model")

    def set(self, route: str, document: Any, status: int = 200) -> None:
        """Answer a route with a document."""
        self.answers[route] = lambda _: httpx.Response(status, json=document)

    def refuse(self, route: str, status: int, code: str, **members: Any) -> None:
        """Answer a route with a problem."""
        self.answers[route] = lambda _: problem(status, code, **members)

    @property
    def sent(self) -> list[Any]:
        """The bodies of all requests with rows."""
        return [json.loads(request.content) for request in self.requests if request.method == "POST"]

    def _predict(self, body: Document) -> httpx.Response:
        common = {"model": "churn", "version": "v1", "timing": {"total_ms": 2.5}}
        if "instances" not in body:
            shares = {"goes": 0.25, "stays": 0.75}
            return httpx.Response(200, json={"prediction": "stays", "probabilities": shares, **common})
        instances = body["instances"]
        if len(instances) > self.rows_max:
            mistake = {"pointer": "/instances", "detail": f"List should have at most {self.rows_max} items"}
            return problem(422, "invalid_rows", errors=[mistake])
        return httpx.Response(200, json={"predictions": [row.get("age") for row in instances], **common})

    def _submit(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        job_id = f"job-{len(self.submitted)}"
        self.submitted[job_id] = {"body": body, "key": request.headers.get("idempotency-key")}
        return httpx.Response(202, json={"id": job_id, "status": "queued"})

    def _job(self, job_id: str) -> httpx.Response:
        if job_id not in self.submitted:
            return problem(404, "unknown_job")
        rows = self.submitted[job_id]["body"].get("instances")
        result = {"prediction": "stays"} if rows is None else {"predictions": [row["age"] for row in rows]}
        served = {"model": "churn", "version": "v1"}
        return httpx.Response(200, json={"id": job_id, "status": "succeeded", **served, "result": result})


def give_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let a text be the standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
