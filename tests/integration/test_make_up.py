"""`make up` in a folder of its own: what it prints works, and Ctrl-C leaves nothing behind."""

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

from tests.support.processes import REPOSITORY, Process, free_port, wait_for
from tests.support.requirements import require

PORTS = ("GATEWAY_PORT", "WORKER_METRICS_PORT", "EXPORTER_PORT", "PROMETHEUS_PORT", "REDIS_PORT")


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


@pytest.mark.timeout(180)
def test_it_serves_what_it_prints_and_ends_cleanly(up: Process, ports: dict[str, str]) -> None:
    require(shutil.which("curl") is not None, "curl is not installed")
    up.start()
    wait_for("the greeting", lambda: "Ctrl-C stops it." in up.log(), 120)
    (line,) = re.findall(r"^\s+(curl .*)$", up.log(), re.MULTILINE)
    answer = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(answer.stdout)["prediction"] == "setosa"
    for address in re.findall(r"^  \w[\w ]+?  +(http\S+)$", up.log(), re.MULTILINE):
        assert httpx.get(address, timeout=10, trust_env=False, follow_redirects=True).status_code in (200, 404), address
    assert listens(ports["GATEWAY_PORT"]) and listens(ports["REDIS_PORT"])

    up.signal(signal.SIGINT)
    wait_for("the end", lambda: not up.running, 60)
    assert up.stop() == 0
    assert not any(listens(port) for port in ports.values())
    assert "Traceback" not in up.log()


def test_a_taken_port_is_one_line(up: Process, ports: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(ports["GATEWAY_PORT"]))):
        up.start()
        wait_for("the end", lambda: not up.running, 30)
    assert up.stop() == 1
    last = up.log().strip().splitlines()[-1]
    assert ports["GATEWAY_PORT"] in last
    assert "GATEWAY_PORT" in last
