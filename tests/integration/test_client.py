"""The client of the SDK against real processes."""

from collections.abc import Iterator

import httpx
import pytest

from headrace import Client
from headrace.client.errors import InvalidRequest, NotFound
from headrace.models.manifest import Manifest
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

    result = job.result(timeout=30)

    assert result["predictions"] == [client.predict(row)["prediction"]] * 2
    assert job.status() == "succeeded"
    assert client.submit([row, row], model="iris", idempotency_key="client").id == job.id


def test_what_the_gateway_refuses_is_an_exception_of_its_kind(client: Client) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        client.predict({"colour": 1.0})
    with pytest.raises(NotFound) as unknown:
        client.job("no-such-job").result(timeout=1)

    assert (invalid.value.code, invalid.value.status) == ("invalid_rows", 422)
    assert invalid.value.members["errors"][0]["pointer"].startswith("/")
    assert unknown.value.code == "unknown_job"
