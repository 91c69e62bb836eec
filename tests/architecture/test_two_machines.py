"""The examples of deploy/two-machines against docker-compose.yml."""

import re
from typing import Any

import yaml

from tests.architecture.test_compose import ROOT, SERVICES

FOLDER = ROOT / "deploy" / "two-machines"


class Loader(yaml.SafeLoader):
    """A loader that knows Compose's `!reset`."""


Loader.add_constructor("!reset", lambda *_: None)


def services(name: str) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.load((FOLDER / name).read_text(), Loader)["services"]
    return loaded


def test_redis_is_that_of_compose() -> None:
    """Options and users are the same, but for files, addresses, and the way to write a password."""
    lines = [line for line in (FOLDER / "redis.conf").read_text().splitlines() if line[:1].isalpha()]
    text = re.sub(r"\$\{(\w+):-\w+\}", r"\1", (ROOT / "docker-compose.yml").read_text())
    command = yaml.safe_load(text)["services"]["redis"]["command"]
    options = " ".join(each or '""' for each in command).removeprefix("--").split(" --")
    here = ("bind", "port", "tls-", "dir")
    assert sorted(line for line in lines if not line.startswith(here)) == sorted(options)


def test_a_worker_machine_runs_workers_alone() -> None:
    here = services("compose.workers.yml")
    started = {name for name in SERVICES if not {**SERVICES[name], **here.get(name, {})}.get("profiles")}
    assert started == {"worker"}
    assert here["worker"]["depends_on"] is None


def test_a_gateway_machine_runs_no_worker() -> None:
    here = services("compose.gateway.yml")
    assert here["worker"] == {"scale": 0}


def test_every_service_that_reads_the_store_reads_the_folder() -> None:
    mounts = {
        name: volume.partition(":")[2]
        for name, service in SERVICES.items()
        for volume in service.get("volumes", ())
        if volume.startswith("models:")
    }
    found = {
        name: volume.rpartition("}:")[2]
        for file in ("compose.gateway.yml", "compose.workers.yml")
        for name, service in services(file).items()
        for volume in service.get("volumes", ())
        if volume.startswith("${MODELS:?")
    }
    assert found == mounts
