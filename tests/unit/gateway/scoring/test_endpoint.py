"""`POST /invocations`, asked of the whole app."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import classifier, mixed, stored, text

MANIFEST = mixed(text("words", None))


def invoked(app: FastAPI, body: str, content_type: str) -> httpx.Response:
    async def asking() -> httpx.Response:
        async with started(app) as client:
            return await client.post("/invocations", content=body, headers={"Content-Type": content_type})

    return run(asking())


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/csv", 503),
        ("text/csv; header=absent", 503),
        ("text/csv; label_size=0", 503),
        ("text/csv; charset=utf-8; Header=Present", 422),
        ('text/csv;header="present"', 422),
        ("text/csv; header=foo", 415),
        ("text/csv; header=presently", 415),
        ("text/csv; header=", 415),
    ],
)
def test_the_content_type_of_csv_tells_whether_there_are_names(tmp_path: Path, content_type: str, status: int) -> None:
    stored(tmp_path / "models", MANIFEST)
    app = lone_gateway(tmp_path, default_model=MANIFEST.name)

    assert invoked(app, "a\nb\n", content_type).status_code == status


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"instances": [5.1, 3.5, 1.4, 0.2]}, "/instances/0"),
        ({"inputs": [5.1, 3.5, 1.4, 0.2]}, "/inputs/0"),
        ({"inputs": [{}, []]}, "/inputs/1"),
    ],
)
def test_rows_of_another_form_get_an_example(tmp_path: Path, body: Any, place: str) -> None:
    manifest = classifier()
    n_values = len(manifest.features)

    content = invoked(lone_gateway(tmp_path), json.dumps(body), "application/json").json()

    detail = f"Input should be an object or a list of {n_values} values, and all rows alike"
    assert content["errors"] == [{"pointer": place, "detail": detail}]
    assert content["example"]["instances"][0].keys() == {feature.name for feature in manifest.features}
    assert content["detail"].endswith("a body has the form of `example`")
