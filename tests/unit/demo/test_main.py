"""What a person sees who has not started anything, or asks for what is not there."""

import json
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from demo.__main__ import main
from demo.model import Model
from demo.options import parse
from demo.scenario import Scenario
from demo.sights import graph_links, timetable
from tests.support import manifests
from tests.support.processes import free_port
from tests.unit.demo.conftest import told


def test_if_nobody_listens_it_says_how_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["--url", url]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"headrace: nobody listens on {url}: start the stack with `make up`")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "body", "options", "said"),
    [
        (200, b"<html>", [], "is that the gateway?"),
        (200, b"[]", [], "is that the gateway?"),
        (502, b"", [], "answers 502: is that the gateway?"),
        (404, b"{}", ["--model", "none"], "serves no model 'none'; GET /models lists"),
        (200, json.dumps(told(manifests.classifier())).encode(), ["--drift", "depth"], "there is length, width"),
    ],
)
def test_what_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: bytes,
    options: list[str],
    said: str,
) -> None:
    answering = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    monkeypatch.setattr("demo.__main__.connect", lambda url: httpx.AsyncClient(base_url=url, transport=answering))
    assert main(options) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--errors", "1.5"], ["--seconds", "-1"], ["--bursts", "nan"]])
def test_senseless_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_ports_are_those_of_make_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "8001")
    monkeypatch.setenv("PROMETHEUS_PORT", "")
    chosen = parse([])
    assert (chosen.url, chosen.prometheus) == ("http://127.0.0.1:8001", "http://127.0.0.1:9090")


def test_the_timetable_is_in_order_and_ends_with_the_run() -> None:
    entries = timetable(Scenario(drift_after=35, burst_every=40), "length", 240)
    assert [at for at, _ in entries] == ["0:00", "0:20", "0:35", "4:00"]
    assert "length drifts" in entries[2][1]
    assert [at for at, _ in timetable(Scenario(35, 40), "length", 30)] == ["0:00", "0:20", "0:30"]
    assert [at for at, _ in timetable(Scenario(35, 0), None, float("inf"))] == ["0:00"]


def test_links_hold_the_feature_as_promql_wants_it(sticks: Model) -> None:
    links = graph_links("http://127.0.0.1:9090", sticks, 'the "length"')
    [query] = parse_qs(urlsplit(links["Drift (PSI)"]).query)["g0.expr"]
    assert query == r'feature:inference_feature:psi15m{model="sticks", feature="the \"length\""}'
