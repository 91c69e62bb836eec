"""The services as SECURITY.md has them: Redis over TLS, API keys; and with the profiles for alerts and gRPC."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.queue.keys import JOB_RESULT_COUNTS
from tests.compose.clone import RUNBOOK, SECURITY, code
from tests.compose.engine import Engine
from tests.compose.load import FLOWER
from tests.compose.stack import ComposeStack
from tests.support.processes import wait_for
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def stack(engine: Engine, clone: Path) -> Iterator[ComposeStack]:
    require(os.geteuid() == 0, "only root can give a key to the user of Redis")
    stack = ComposeStack(
        engine,
        clone,
        COMPOSE_PROFILES="alerting,grpc",
        COMPOSE_FILE="docker-compose.yml:docker-compose.tls.yml:docker-compose.override.yml:keys.yml",
        API_KEYS_FILE="/keys/api-keys",
        METRICS_OPEN="true",
    )
    try:
        make_certificates(stack)
        stack.http.headers["Authorization"] = f"Bearer {make_key(stack)}"
        stack.up()
        yield stack
    finally:
        stack.close()


def make_certificates(stack: ComposeStack) -> None:
    """Run the commands of SECURITY.md but for the last ones, which configure and start Compose."""
    [commands] = [block for block in code("sh", SECURITY, "Redis") if "openssl" in block]
    making = commands[: commands.index("echo COMPOSE_FILE")]
    stack.shell(f'HOME="{stack.folder.parent}"\nsudo() {{ "$@"; }}\n{making}')


def make_key(stack: ComposeStack) -> str:
    """Make the file of keys and a key as SECURITY.md says, and return the key."""
    [override] = code("yaml", SECURITY, "API keys")
    (stack.folder / "keys.yml").write_text(override)
    [folder, command, _] = code("sh", SECURITY, "API keys")[0].splitlines()
    inside = command.replace(".venv/bin/headrace", "docker compose run --rm -T gateway headrace")
    stack.shell(f"{folder}\n{inside} 2>shown")
    [key] = re.findall(r"only this once: (\S+)", (stack.folder / "shown").read_text())
    return str(key)


def test_only_callers_with_a_key_are_served(stack: ComposeStack) -> None:
    assert stack.predict(FLOWER, headers={"Authorization": ""}).status_code == 401
    assert stack.predict(FLOWER).json()["prediction"] == "setosa"
    assert stack.outcome(stack.submit(FLOWER))["status"] == "succeeded"


def test_a_key_that_is_taken_away_counts_no_longer(stack: ComposeStack) -> None:
    file = stack.folder / "keys/api-keys"
    mine = file.read_text()
    file.write_text(re.sub(r"sha256:\w+", f"sha256:{64 * '0'}", mine))
    wait_for("the key is gone", lambda: stack.predict(FLOWER).status_code == 401)

    file.write_text(mine)
    wait_for("the key is back", lambda: stack.predict(FLOWER).status_code == 200)


def test_redis_speaks_tls_only_and_is_for_its_clients_alone(stack: ComposeStack) -> None:
    assert stack.fails("exec", "-T", "redis", "redis-cli", "--user", "operator", "-e", "ping")
    assert operator(stack, "ping") == "PONG\n"
    connecting = [
        "exec",
        "-T",
        "celery-exporter",
        "python",
        "-c",
        "import socket; socket.create_connection(('redis', 6379), 5)",
    ]
    assert not stack.fails(*connecting)
    assert stack.fails("exec", "-T", "prometheus", "wget", "-T", "5", "-O", "-", "http://redis:6379")


def test_an_alert_reaches_alertmanager(stack: ComposeStack) -> None:
    def alerts() -> set[str]:
        answer = httpx.get(f"{stack.urls['ALERTMANAGER_PORT']}/api/v2/alerts", trust_env=False)
        return {each["labels"]["alertname"] for each in answer.json()}

    wait_for("the counter", lambda: set(stack.query("inference_results_dropped_total").values()) == {0})
    # Count a result that made room for newer ones: its alert fires at once.
    operator(stack, "hincrby", JOB_RESULT_COUNTS, "dropped", "1")

    wait_for("the alert", lambda: "HeadraceResultsDropped" in alerts(), 120)


def operator(stack: ComposeStack, *words: str) -> str:
    """Return what Redis answers to the function of the runbook."""
    definition = re.findall(r"^redis\(\) {.*?; }$", RUNBOOK, re.DOTALL | re.MULTILINE)[0]
    return stack.shell(f"{definition}\nredis {shlex.join(words)}")
