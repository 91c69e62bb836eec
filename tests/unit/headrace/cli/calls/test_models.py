import json

import pytest

from headrace.client.row_types import module_of
from tests.support.hostile_texts import HOSTILE_TEXTS, harmless
from tests.unit.headrace.cli.calls.gateway import DESCRIPTION, FakeGateway
from tests.unit.headrace.cli.versions import run

Captured = pytest.CaptureFixture[str]


def test_models_are_a_table(gateway: FakeGateway, capsys: Captured) -> None:
    assert run("models") == 0
    assert capsys.readouterr().out == "MODEL  ALIASES\nother\nchurn  latest v1  default\n"
    assert run("models", "--json") == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["models"]] == ["other", "churn"]


def test_a_version_is_described_for_people(gateway: FakeGateway, capsys: Captured) -> None:
    assert run("describe", "churn") == 0

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "churn v1 (latest v1, production v1)",
        "Will a customer go?",
        "estimator sklearn.pipeline.Pipeline",
        "training_rows 120",
        "loaded_by worker-1",
        "accuracy 0.875",
        "prediction one of goes, stays",
        "features",
        "age number 18.0 to 90.0, or null",
        "city string Bern, Köln, or null",
        "paid boolean",
    ]


def test_a_description_is_a_document(gateway: FakeGateway, capsys: Captured) -> None:
    assert run("describe", "churn", "--version", "v1", "--json") == 0

    assert json.loads(capsys.readouterr().out) == DESCRIPTION
    assert gateway.requests[-1].url.path == "/models/churn/versions/v1"


@pytest.mark.parametrize("strange", [5, "text", [5], {"a": {"b": [None]}}, True, "\x1b[2J"])
def test_a_description_of_another_form_is_shown_as_it_is(
    strange: object, gateway: FakeGateway, capsys: Captured
) -> None:
    members = ("description", "scores", "outputs", "aliases", "loaded_by", "estimator")
    features = [{"name": "x", "type": strange, "categories": strange}, {"name": "y", "minimum": strange}]
    document = {"name": "churn", "version": "v1", "features": features, **dict.fromkeys(members, strange)}
    gateway.set("GET /models/churn", document)

    assert run("describe", "churn") == 0
    output, errors = capsys.readouterr()
    assert output.startswith("churn v1") and harmless(output) and errors == ""


@pytest.mark.parametrize("text", [text for text in HOSTILE_TEXTS if "\ud800" not in text])
def test_texts_of_a_description_are_escaped(text: str, gateway: FakeGateway, capsys: Captured) -> None:
    features = [{"name": text, "type": "string", "categories": [text]}]
    document = {"name": text, "version": text, "description": text, "features": features, "aliases": {text: text}}
    gateway.set("GET /models/churn", document)
    gateway.set("GET /models", {"models": [document]})

    for command in (("describe", "churn"), ("models",)):
        assert run(*command) == 0
        assert harmless(capsys.readouterr().out)
        assert run(*command, "--json") == 0
        assert harmless(capsys.readouterr().out)


def test_the_types_of_rows_are_a_module(gateway: FakeGateway, capsys: Captured) -> None:
    assert run("client-types", "churn", "--version", "v1") == 0
    module = capsys.readouterr().out
    assert module == module_of(DESCRIPTION) and "class ChurnRow(TypedDict):\n" in module
    assert gateway.requests[-1].url.path == "/models/churn/versions/v1"

    assert run("client-types", "churn", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"module": module}
    gateway.set("GET /models/churn", {**DESCRIPTION, "name": "\x1b[2J"})
    assert run("client-types", "churn") == 2
    output, errors = capsys.readouterr()
    assert output == "" and harmless(errors)


@pytest.mark.parametrize("text", [text for text in HOSTILE_TEXTS if "\ud800" not in text])
def test_names_of_features_do_not_change_the_module(text: str, gateway: FakeGateway, capsys: Captured) -> None:
    described = {**DESCRIPTION, "features": [{"name": text, "type": "string", "known": [text]}]}
    gateway.set("GET /models/churn", described)

    assert run("client-types", "churn") == 0
    module = capsys.readouterr().out
    assert harmless(module) and module == module_of(described)
    compile(module, "rows.py", "exec")


def test_a_gateway_that_serves_is_healthy(gateway: FakeGateway, capsys: Captured) -> None:
    gateway.set("GET /health", {"status": "ok", "reason": None, "workers": {"live": 1, "slots": 2}})

    assert run("health") == 0
    assert capsys.readouterr().out == "status   ok\nworkers  live 1, slots 2\n"


def test_a_gateway_that_does_not_serve_is_shown_and_a_failure(gateway: FakeGateway, capsys: Captured) -> None:
    summary = {"status": "unavailable", "reason": "no worker is running"}
    gateway.set("GET /health", summary, 503)

    assert run("health") == 4
    assert capsys.readouterr() == ("status  unavailable\nreason  no worker is running\n", "")
    assert run("health", "--json") == 4
    assert json.loads(capsys.readouterr().out) == summary
