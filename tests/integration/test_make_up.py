"""`make up` in a folder of its own: the printed commands work, and Ctrl-C leaves no process behind."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.exposition import Scrape
from tests.support.processes import REPOSITORY, Process, free_port, wait_for
from tests.support.requirements import require

PORTS = (
    *("GATEWAY_PORT", "WORKER_METRICS_PORT", "EXPORTER_PORT", "PROMETHEUS_PORT", "REDIS_PORT"),
    *("GRPC_PORT", "GRPC_METRICS_PORT"),
)


@pytest.fixture
def ports() -> dict[str, str]:
    return {name: str(free_port()) for name in PORTS}


@pytest.fixture
def up(tmp_path: Path, ports: dict[str, str]) -> Iterator[Process]:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    require(tracked.returncode == 0, "this is no git checkout")
    copy = tmp_path / "checkout"
    for name in filter(None, tracked.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, copy / name)
    process = Process("up", [sys.executable, "-u", "-m", "scripts.up"], ports, tmp_path, folder_to_run_in=copy)
    yield process
    if process.running:
        process.stop()


def listens(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


@pytest.mark.timeout(400)
def test_it_serves_what_it_prints_and_ends_cleanly(up: Process, ports: dict[str, str]) -> None:
    require(shutil.which("curl") is not None, "curl is not installed")
    up.start()
    wait_for("the greeting", lambda: "Ctrl-C stops it." in up.log(), 120)
    (line,) = re.findall(r"^\s+(curl .*)$", up.log(), re.MULTILINE)
    answer = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(answer.stdout)["prediction"] == "setosa"
    for address in re.findall(r"^  \w[\w ]+?  +(http\S+)$", up.log(), re.MULTILINE):
        assert httpx.get(address, timeout=60, trust_env=False, follow_redirects=True).status_code in (200, 404), address
    assert all(listens(ports[name]) for name in ("GATEWAY_PORT", "REDIS_PORT", "GRPC_PORT"))
    left_out = dict(re.findall(r"^headrace: (\w+) is left out: (.+)$", up.log(), re.MULTILINE))
    assert "Docker Compose" in left_out.pop("grafana")
    if "exporter" not in left_out:
        wait_for("celery-exporter has seen the task and its worker", lambda: watches_celery(ports["EXPORTER_PORT"]))
    if "prometheus" not in left_out:
        assert scraped(ports["PROMETHEUS_PORT"]) == {
            "gateway": ports["GATEWAY_PORT"],
            "grpc": ports["GRPC_METRICS_PORT"],
            "worker": ports["WORKER_METRICS_PORT"],
            "prometheus": ports["PROMETHEUS_PORT"],
        } | ({} if "exporter" in left_out else {"celery-exporter": ports["EXPORTER_PORT"]})

    up.signal(signal.SIGINT)
    wait_for("the end", lambda: not up.running)
    assert up.stop() == 0
    assert not any(listens(port) for port in ports.values())
    assert "Traceback" not in up.log()
    require(not left_out, f"left out here: {left_out}")


def watches_celery(port: str) -> bool:
    """Scrape the exporter, which asks the workers for 2 s; busy ones may not answer in time."""
    seen = Scrape(f"http://127.0.0.1:{port}/metrics")
    return (
        {"celery_worker_up", "celery_task_received_total"} <= seen.names
        and seen.total("celery_worker_up") == 1
        and seen.total("celery_task_received_total", name="headrace.predict") >= 1
        and seen.total("celery_active_worker_count", queue_name="interactive") == 1
        and seen.total("celery_queue_length", queue_name="bulk") == 0
    )


def scraped(port: str) -> dict[str, str]:
    """Return job and port of each target of Prometheus, none of which is down."""
    answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/targets", timeout=60, trust_env=False)
    targets = answer.json()["data"]["activeTargets"]
    assert not [target for target in targets if target["health"] == "down"]
    return {target["labels"]["job"]: target["scrapeUrl"].rpartition(":")[2].partition("/")[0] for target in targets}


def test_a_taken_port_is_one_line(up: Process, ports: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(ports["GATEWAY_PORT"]))):
        up.start()
        wait_for("the end", lambda: not up.running)
    assert up.stop() == 1
    last = up.log().strip().splitlines()[-1]
    assert ports["GATEWAY_PORT"] in last
    assert "GATEWAY_PORT" in last
