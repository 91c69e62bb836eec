"""Each setting that stands in `.env` reaches the containers that have it, by way of docker-compose.yml."""

import re
from typing import Any

import pytest
import yaml

from shared.settings import CommonSettings
from tests.architecture.test_compose import ROOT, SETTINGS, TEXT
from worker.settings import WorkerSettings

RAW: dict[str, Any] = yaml.safe_load(TEXT)["services"]
"""The services, with their variables as they are written."""

FIXED = {
    "gateway": {"GATEWAY_HOST", "GATEWAY_PORT"},
    "grpc": {"GRPC_HOST", "GRPC_METRICS_HOST", "GRPC_METRICS_PORT", "GRPC_PORT"}
    # These mean nothing to it.
    | {"GATEWAY_HOST", "GATEWAY_PORT", "GATEWAY_PROCESSES"},
    # The trainer has no network.
    "trainer": {"TRACING"},
    "worker": {"WORKER_METRICS_HOST", "WORKER_METRICS_PORT", "PROMETHEUS_MULTIPROC_DIR"},
}
"""Settings that other services rely on, or that mean nothing there; the images or the file set them, if anything."""

OF_COMMANDS = {"MODEL_LOAD_SECONDS", "SKOPS_TRUSTED_TYPES", "TRUSTED_MODULES", "WORKER_MEMORY_BUDGET_BYTES"}
"""Settings of the worker that commands read in the trainer's container."""

PUBLISHED = {
    "alertmanager": ("ALERTMANAGER_PORT", 9093),
    "gateway": ("GATEWAY_PORT", 8000),
    "grafana": ("GRAFANA_PORT", 3000),
    "grpc": ("GRPC_PORT", 8001),
    "prometheus": ("PROMETHEUS_PORT", 9090),
}

each_of_ours = pytest.mark.parametrize("name", SETTINGS)


def substituted(text: str, **variables: str) -> str:
    """Return a value as Compose makes it: an empty variable counts as unset."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


def passed_on(name: str) -> set[str]:
    """Return the variables that a container gets unchanged."""
    environment = RAW[name]["environment"]
    return {variable for variable, text in environment.items() if re.fullmatch(rf"\${{{variable}:-.*}}", str(text))}


@each_of_ours
def test_every_setting_is_passed_on(name: str) -> None:
    settings = {field.upper() for field in SETTINGS[name].model_fields} - {"REDIS_URL"}
    of_commands = OF_COMMANDS if name == "trainer" else set()
    telemetry = {variable for variable in RAW[name]["environment"] if variable.startswith("OTEL_")}

    assert passed_on(name) - telemetry == settings - FIXED[name] | of_commands
    assert telemetry <= passed_on(name)


@each_of_ours
def test_a_setting_that_is_not_set_has_the_default_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "counts")
    plain = SETTINGS[name]().model_dump()
    environment = {variable: substituted(str(RAW[name]["environment"][variable])) for variable in passed_on(name)}
    empty = {variable.lower() for variable, value in environment.items() if not value}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    given = SETTINGS[name]().model_dump()

    assert empty
    assert {field: given[field] for field in empty & given.keys()} == {
        field: plain[field] for field in empty & plain.keys()
    }


@pytest.mark.parametrize(("name", "variable"), [(name, each) for name in SETTINGS for each in sorted(passed_on(name))])
def test_a_value_of_the_environment_file_arrives(name: str, variable: str) -> None:
    assert substituted(str(RAW[name]["environment"][variable]), **{variable: "given"}) == "given"


def test_commands_in_the_trainer_read_what_the_worker_has() -> None:
    assert {field.upper() for field in WorkerSettings.model_fields} >= OF_COMMANDS
    assert not OF_COMMANDS & {field.upper() for field in CommonSettings.model_fields}
    for variable in OF_COMMANDS:
        assert RAW["trainer"]["environment"][variable] == RAW["worker"]["environment"][variable]


@pytest.mark.parametrize("name", PUBLISHED)
def test_ports_of_this_machine_can_be_chosen(name: str) -> None:
    variable, port = PUBLISHED[name]

    assert RAW[name]["ports"] == [f"127.0.0.1:${{{variable}:-{port}}}:{port}"]


def test_the_guide_names_what_differs() -> None:
    guide = (ROOT / "docs" / "compose.md").read_text("utf-8")
    table = guide.split("## Replicas")[0]
    fixed = set.union(*FIXED.values()) - {"TRACING", "GATEWAY_PROCESSES"}
    named = {*fixed, *(variable for variable, _ in PUBLISHED.values()), "REDIS_URL", "WORKERS", "WORKER_CPUS"}

    assert {each for each in named if f"`{each}`" not in table and not each.endswith("_HOST")} == set()
    assert "`…_HOST`" in table
