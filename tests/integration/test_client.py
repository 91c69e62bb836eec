"""The client of the SDK against real processes."""

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest

from headrace import AsyncClient, Client
from headrace.client.errors import InvalidRequest, NotFound, UnusableRows
from headrace.models.manifest import Manifest
from tests.support.coroutines import run
from tests.support.processes import REPOSITORY
from tests.support.stack import Stack


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    # A transport of its own: a proxy for everything else can't reach this machine.
    with Client(stack.url, transport=httpx.HTTPTransport()) as client:
        yield client


@pytest.fixture
def row(iris: Manifest) -> dict[str, float]:
    return {feature.name: feature.maximum or 0.0 for feature in iris.features}


def test_rows_are_predicted(client: Client, row: dict[str, float], iris: Manifest) -> None:
    one = client.predict(row)
    two = client.predict([row, row], model="iris", version="latest", deadline=5)

    assert (one["model"], one["version"]) == ("iris", iris.version)
    assert two["predictions"] == [one["prediction"]] * 2


def test_a_job_has_a_result(client: Client, row: dict[str, float]) -> None:
    job = client.submit([row, row], model="iris", idempotency_key="client")

    result = job.result(timeout=60)

    assert result["predictions"] == [client.predict(row)["prediction"]] * 2
    assert job.status() == "succeeded"
    assert client.submit([row, row], model="iris", idempotency_key="client").id == job.id


def test_models_and_the_state_of_the_gateway_are_shown(client: Client, iris: Manifest) -> None:
    assert "iris" in [model["name"] for model in client.models()]
    described = client.model("iris", "latest")

    assert (described["version"], len(described["features"])) == (iris.version, len(iris.features))
    assert client.model("iris")["aliases"]["latest"] == iris.version
    assert client.health()["status"] == "ok"


def test_arrays_get_the_names_of_the_features(client: Client, row: dict[str, float]) -> None:
    matrix = np.array([list(row.values())] * 2)

    assert client.predict(matrix)["predictions"] == [client.predict(row)["prediction"]] * 2
    with pytest.raises(UnusableRows, match="row 0 has 5 values, and the model has 4 features"):
        client.predict(np.zeros((1, 5)), "iris")


def test_many_rows_are_predicted_in_order(client: Client, row: dict[str, float]) -> None:
    rows: list[dict[str, Any]] = [
        {**row, "petal_length": 0.2 * (at % 30), "petal_width": 0.1 * (at % 24)} for at in range(300)
    ]
    expected = client.predict(rows)

    documents = list(client.map(iter(rows), "iris", batch_rows=32))

    assert [document["prediction"] for document in documents] == expected["predictions"]
    assert [document["row"] for document in documents] == list(range(300))
    assert len(set(expected["predictions"])) > 1
    rows[77] = {**row, "petal_length": "long"}
    with pytest.raises(InvalidRequest, match="/instances/77/petal_length: ") as caught:
        list(client.map(rows, batch_rows=32))
    assert caught.value.rows == [77]


def test_an_event_loop_gets_the_same_answers(stack: Stack, client: Client, row: dict[str, float]) -> None:
    async def story() -> list[Any]:
        async with AsyncClient(stack.url, transport=httpx.AsyncHTTPTransport()) as client:
            job = await client.submit(row, "iris")
            made = [answer["prediction"] for answer in await asyncio.gather(*(client.predict(row) for _ in range(10)))]
            made += [document["prediction"] async for document in client.map([row] * 10, batch_rows=3)]
            return [*made, (await job.result(timeout=60))["prediction"]]

    assert run(story()) == [client.predict(row)["prediction"]] * 21


def test_the_programs_of_the_documentation_run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REPOSITORY / "docs/client.md").read_text()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(programs) == page.count("```python")
    scope: dict[str, Any] = {}

    for program in programs:
        exec(program.replace("http://127.0.0.1:8000", stack.url), scope)

    said = capsys.readouterr().out
    for expected in (
        "setosa",
        "10000 rows",
        "20 predictions",
        "invalid_rows /petal_length",
        "class IrisRow(TypedDict):",
    ):
        assert expected in said, said


def test_what_the_gateway_refuses_is_an_exception_of_its_kind(client: Client) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        client.predict({"colour": 1.0})
    with pytest.raises(NotFound) as unknown:
        client.job("no-such-job").result(timeout=1)

    assert (invalid.value.code, invalid.value.status) == ("invalid_rows", 422)
    assert invalid.value.members["errors"][0]["pointer"].startswith("/")
    assert unknown.value.code == "unknown_job"


def test_threads_that_share_a_client_lose_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # By default httpx closes connections that are idle for 5 s, as they are on a busy machine.
    monkeypatch.setattr(httpx, "Limits", partial(httpx.Limits, keepalive_expiry=None))
    all_here = threading.Barrier(30)
    opened, closed = [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            opened.append(self.client_address)

        def finish(self) -> None:
            closed.append(self.client_address)
            super().finish()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/models/together/predict":
                all_here.wait(timeout=60)
            self.send_response(200)
            self.send_header("Content-Length", "16")
            self.end_headers()
            self.wfile.write(b'{"prediction":1}')

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        # The kernel drops connections that come at once beyond the usual 5, and tries again later and later.
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            with ThreadPoolExecutor(30) as pool:
                list(pool.map(lambda _: client.predict({}, model="together"), range(30)))
            client.predict({})
            assert (len(opened), closed) == (30, [])
        server.shutdown()
