import asyncio
import json
import shlex
import shutil
import subprocess
from types import SimpleNamespace
from typing import cast

import pytest

from headrace.models.manifest import Manifest
from scripts.greeting import curl_line, greeting, sample_row, wait_until_ready, why_not_ready
from tests.support.hostile_texts import HOSTILE_TEXTS, harmless
from tests.support.requirements import require
from tests.unit.scripts.conftest import Answer

ROW = {
    "sepal length (cm)": 5.1,
    "it's": -3,
    'a "quoted" one': True,
    "größe": None,
    "$HOME": 1e-9,
    "colour": "red `id` !!",
}


def test_curl_line_holds_the_row() -> None:
    words = shlex.split(curl_line("http://127.0.0.1:8000", ROW))

    assert words[:3] == ["curl", "-sS", "http://127.0.0.1:8000/predict"]
    assert json.loads(words[words.index("-d") + 1]) == ROW


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_curl_line_holds_no_character_that_a_terminal_obeys(text: str) -> None:
    line = curl_line("http://127.0.0.1:8000", {text: text})

    assert harmless(line)
    words = shlex.split(line)
    assert json.loads(words[words.index("-d") + 1]) == {text: text}


def test_curl_line_has_a_place_for_a_key_where_one_is_asked_for() -> None:
    words = shlex.split(curl_line("http://127.0.0.1:8000", ROW, with_key=True))

    assert "Authorization: Bearer $API_KEY" in words
    assert "Bearer" not in curl_line("http://127.0.0.1:8000", ROW)


def test_curl_line_works_when_pasted(fake_gateway: Answer) -> None:
    require(shutil.which("curl") is not None, "curl is not installed")
    fake_gateway.body = b'{"prediction": 1}'
    line = curl_line(f"http://127.0.0.1:{fake_gateway.port}", ROW)

    answer = subprocess.run(["sh", "-c", line], capture_output=True, check=True, text=True, timeout=60)

    assert answer.stdout == '{"prediction": 1}\n'
    assert json.loads(fake_gateway.asked) == ROW


@pytest.mark.parametrize(("exempt", "flag"), [("", True), ("example.com", True), ("127.0.0.1", False), ("*", False)])
def test_curl_line_passes_by_a_proxy(monkeypatch: pytest.MonkeyPatch, exempt: str, flag: bool) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", exempt)

    assert ("--noproxy" in shlex.split(curl_line("http://127.0.0.1:8000", ROW))) is flag


def test_the_row_comes_from_the_manifest() -> None:
    features = [SimpleNamespace(name="length"), SimpleNamespace(name="width")]
    manifest = SimpleNamespace(features=features, samples=[SimpleNamespace(row=[5.1, 3.5])])

    assert sample_row(cast(Manifest, manifest)) == {"length": 5.1, "width": 3.5}


def test_greeting_shows_every_address_on_a_line() -> None:
    lines = greeting(
        {"Gateway": "http://127.0.0.1:8000", "API docs": "http://127.0.0.1:8000/docs"}, "curl"
    ).splitlines()

    assert "  Gateway   http://127.0.0.1:8000" in lines
    assert "  API docs  http://127.0.0.1:8000/docs" in lines
    assert "  curl" in lines


@pytest.mark.parametrize(
    ("status", "body", "objection"),
    [
        (200, b"{}", None),
        (503, b'{"title": "Not ready", "detail": "no worker answers"}', "answers 503: no worker answers"),
        (500, b"two\nlines", "answers 500: two lines"),
        (503, b"[]", "answers 503: []"),
    ],
)
def test_objection_of_readyz(fake_gateway: Answer, status: int, body: bytes, objection: str | None) -> None:
    fake_gateway.status, fake_gateway.body = status, body

    assert why_not_ready(f"http://127.0.0.1:{fake_gateway.port}") == objection


def test_no_gateway_is_an_objection(free_port: int) -> None:
    assert str(why_not_ready(f"http://127.0.0.1:{free_port}")).startswith("does not answer: ")


def test_waiting_ends_when_the_gateway_is_ready(fake_gateway: Answer) -> None:
    fake_gateway.status, fake_gateway.body = 503, b'{"detail": "no worker answers"}'
    url = f"http://127.0.0.1:{fake_gateway.port}"

    assert asyncio.run(wait_until_ready(url, patience_seconds=0)) == "answers 503: no worker answers"

    async def soon() -> str | None:
        asyncio.get_running_loop().call_later(0.05, setattr, fake_gateway, "status", 200)
        return await wait_until_ready(url, patience_seconds=20)

    assert asyncio.run(soon()) is None
