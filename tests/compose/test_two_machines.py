"""Two projects, as docs/two-machines.md has one on each machine; here they meet at an address of this machine."""

import os
import shutil
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.compose.clone import code
from tests.compose.engine import Engine
from tests.compose.load import FLOWER
from tests.compose.stack import ComposeStack
from tests.support.processes import REPOSITORY, free_port, wait_for
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(1800)

PAGE = (REPOSITORY / "docs/two-machines.md").read_text("utf-8")
SUBNET = "{{(index .IPAM.Config 0).Subnet}}"


def settings_of(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture(scope="module")
def address(engine: Engine) -> str:
    """Return the address of the bridge, which is this machine's, and which containers of every network reach."""
    subnet = engine.docker("network", "inspect", "bridge", "--format", SUBNET).stdout.strip()
    # Not every engine says the address, which is the first one.
    return str(next(ip_network(subnet).hosts()))


@pytest.fixture(scope="module")
def stacks(
    engine: Engine, built: Path, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ComposeStack, ComposeStack]]:
    """Yield the stacks of both machines, set up by the commands of the page."""
    require(os.geteuid() == 0, "only root can give a key to the user of Redis")
    folder = tmp_path_factory.mktemp("two")
    models = folder / "models"
    models.mkdir(mode=0o755)
    metrics_port = free_port()
    redis_port = {"REDIS_PORT": str(free_port())}
    of_gateway, of_workers, preparing, starting = code("sh", PAGE, "Docker Compose")
    certificates = code("sh", PAGE, "Certificates and passwords")[0]

    def here(text: str) -> str:
        return (
            text.replace("10.0.0.1", address).replace("10.0.0.2", address).replace("/srv/headrace/models", str(models))
        )

    clones = [shutil.copytree(built, folder / name / "headrace") for name in ("near", "far")]
    root = f'HOME="{folder}"\nsudo() {{ "$@"; }}\n'
    engine.shell(root + here(certificates), clones[0])
    passwords = settings_of((clones[0] / ".env").read_text())
    near = ComposeStack(engine, clones[0], **passwords, **settings_of(here(of_gateway)), **redis_port)
    worker_password = {"WORKER_REDIS_PASSWORD": passwords["WORKER_REDIS_PASSWORD"]}
    ports = {"WORKER_METRICS_PORTS": f"{metrics_port}-{metrics_port + 1}"}
    far = ComposeStack(engine, clones[1], **worker_password, **settings_of(here(of_workers)), **redis_port, **ports)
    (clones[1] / "tls").mkdir()
    shutil.copy(clones[0] / "tls/ca.pem", clones[1] / "tls")
    example = clones[0] / "deploy/two-machines/targets/worker.yml"
    targets = here(example.read_text()).replace(":9101", f":{metrics_port}").replace(":9102", f":{metrics_port + 1}")
    example.write_text(targets)
    try:
        near.shell(root + here(preparing).replace("--build ", ""))
        far.shell(starting)
        yield near, far
    finally:
        far.close()
        near.close()


def test_workers_of_another_project_are_used_and_scraped(stacks: tuple[ComposeStack, ComposeStack]) -> None:
    near, far = stacks
    near.wait_ready()
    near.wait_for_slots(4)

    assert near.predict(FLOWER).json()["prediction"] == "setosa"
    assert near.outcome(near.submit(FLOWER))["status"] == "succeeded"
    assert {each["Service"] for each in far.containers()} == {"worker"}
    assert "worker" not in {each["Service"] for each in near.containers()}
    wait_for("both workers are scraped", lambda: len(near.query('up{job="worker"} == 1')) == 2)
    assert not near.query("up == 0")
