"""A real nginx in front of two gateways, with the text of deploy/nginx/headrace.conf."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings import GatewaySettings
from headrace import Client
from tests.support.processes import PATIENCE_SECONDS, REPOSITORY, Process, free_port, python, wait_for
from tests.support.puppet import Act
from tests.support.requirements import require
from tests.support.stack import Stack
from tests.support.tls import TlsFiles, tls_files

EXAMPLE = (REPOSITORY / "deploy/nginx/headrace.conf").read_text("utf-8")
ROW = {"value": 1.0, "act": Act.ANSWER}
NOBODY = 65534

MAIN = """
daemon off;
worker_processes 2;
error_log stderr;
pid {folder}/pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/headrace.conf;
}}
"""
"""Main file of an nginx whose paths an ordinary user may write."""


class Nginx:
    """An nginx that an ordinary user runs with the example; ports, addresses and paths in it are replaced."""

    def __init__(self, folder: Path, files: TlsFiles, gateways: list[int], grpc_port: int) -> None:
        port, self.grpc_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        replaced = {
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "listen 8443 ": f"listen 127.0.0.1:{self.grpc_port} ",
            "127.0.0.1:8000;": f"127.0.0.1:{gateways[0]};",
            "10.0.0.2:8000;": f"127.0.0.1:{gateways[1]};",
            "127.0.0.1:8001;": f"127.0.0.1:{grpc_port};",
            "/etc/headrace/tls/server.pem": str(files.certificate),
            "/etc/headrace/tls/server.key": str(files.key),
            "headrace_address 500;": "headrace_address 50;",
        }
        text = EXAMPLE
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "headrace.conf").write_text(text)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        require(program is not None, "nginx is not installed (Debian: package nginx-light)")
        assert program is not None
        command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        if os.geteuid() == 0:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        self.process = Process("nginx", command, {}, folder)


class Proxied:
    """A stack with a second gateway, and nginx in front of both and of a gRPC process."""

    def __init__(self, folder: Path, nginx_folder: Path, models: Path) -> None:
        self.files = tls_files(nginx_folder / "tls")
        self.stack = Stack(
            folder, models, DEFAULT_MODEL="puppet", TRUSTED_PROXIES="127.0.0.1", PREDICT_DEADLINE_SECONDS="30"
        )
        port, grpc_port = free_port(), free_port()
        environment = self.stack.gateway.environment
        self.second = Process("second", python("gateway"), {**environment, "GATEWAY_PORT": str(port)}, folder)
        rpc = {"GRPC_PORT": str(grpc_port), "GRPC_METRICS_PORT": str(free_port())}
        self.grpc = Process("grpc", python("gateway.rpc"), {**environment, **rpc}, folder)
        self.ports = [int(self.stack.url.rpartition(":")[2]), port]
        self.nginx = Nginx(nginx_folder, self.files, self.ports, grpc_port)
        self.grpc_metrics = f"http://127.0.0.1:{rpc['GRPC_METRICS_PORT']}"
        self.http = self.client()

    def client(self) -> httpx.Client:
        """Return a client of the gateway as callers see it."""
        context = ssl.create_default_context(cafile=str(self.files.authority))
        return httpx.Client(base_url=f"{self.nginx.url}/ml", verify=context, timeout=60, trust_env=False)

    def start(self) -> "Proxied":
        self.stack.start()
        self.start_second()
        self.grpc.start()
        self.nginx.process.start()
        wait_for("nginx answers", self._ready)
        wait_for("gRPC listens", lambda: self.stack.status(f"{self.grpc_metrics}/livez") == 200)
        return self

    def start_second(self) -> None:
        """Start the second gateway, and wait until it serves."""
        self.second.start()
        wait_for("the second gateway", lambda: self.stack.status(f"http://127.0.0.1:{self.ports[1]}/readyz") == 200)

    def _ready(self) -> bool:
        assert self.nginx.process.running, self.nginx.process.log()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self.http.close()
        for process in (self.nginx.process, self.grpc, self.second):
            if process.running:
                process.stop()
        self.stack.close()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[Proxied]:
    # The folders of pytest are this user's alone.
    with tempfile.TemporaryDirectory(prefix="headrace-nginx-") as folder:
        proxied = Proxied(tmp_path_factory.mktemp("proxied"), Path(folder), puppet_models)
        try:
            yield proxied.start()
        finally:
            proxied.close()


def test_a_prediction_and_a_job_under_the_prefix(proxied: Proxied) -> None:
    assert proxied.http.post("/predict", json=ROW).json()["prediction"] == "high"
    accepted = proxied.http.post("/jobs", json=ROW)
    assert accepted.headers["Location"] == f"/ml/jobs/{accepted.json()['id']}"
    at = httpx.URL(proxied.nginx.url).join(accepted.headers["Location"])
    assert proxied.http.get(at, params={"wait": 30}).json()["status"] == "succeeded"
