"""A real nginx in front of two gateways, with the text of deploy/nginx/headrace.conf."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.support.tensors import tensor
from tests.support.tls import TlsFiles, tls_files

EXAMPLE = (REPOSITORY / "deploy/nginx/headrace.conf").read_text("utf-8")
ROW = {"value": 1.0, "act": Act.ANSWER}
NOBODY = 65534
ADDRESS_REQUESTS_MAX = 20
"""Limit of requests of one address, in place of that of the example."""

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
            "headrace_address 500;": f"headrace_address {ADDRESS_REQUESTS_MAX};",
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

    def logs(self) -> str:
        """Return the output of nginx and of the stack."""
        return f"{self.stack.logs()}\n--- nginx\n{self.nginx.process.log()}"

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


def test_pages_name_addresses_under_the_prefix(proxied: Proxied) -> None:
    beginning = proxied.http.get(httpx.URL(proxied.nginx.url).join("/ml"))
    assert (beginning.status_code, beginning.headers["Location"]) == (308, f"{proxied.nginx.url}/ml/")
    assert proxied.http.get("/").headers["Location"] == "/ml/docs"
    page = proxied.http.get("/docs")
    for script in re.findall(r'src="([^"]+)"', page.text):
        assert proxied.http.get(page.url.join(script)).status_code == 200
    document = proxied.http.get("/openapi.json")
    [server] = document.json()["servers"]
    assert document.url.join(server["url"]).path == "/ml/"
    assert f"{proxied.nginx.url}/ml/models/puppet" in proxied.http.get("/models/puppet/card").text


def test_a_callers_prefix_does_not_count(proxied: Proxied) -> None:
    accepted = proxied.http.post("/jobs", json=ROW, headers={"X-Forwarded-Prefix": "/evil"})
    assert accepted.headers["Location"].startswith("/ml/jobs/")


def test_what_is_not_for_callers_stays_inside(proxied: Proxied) -> None:
    assert {proxied.http.get(path).status_code for path in ("/metrics", "/scaling", "/%6Detrics")} == {404}
    assert proxied.http.get(httpx.URL(proxied.nginx.url).join("/predict")).status_code == 404
    assert proxied.http.get("/readyz").status_code == 200


def test_connections_to_the_gateways_are_used_again(proxied: Proxied) -> None:
    def connections() -> int:
        """Count connections to the gateways, open ones and those that ended a moment ago."""
        table = Path("/proc/net/tcp").read_text()
        return sum(len(re.findall(f"0100007F:[0-9A-F]{{4}} 0100007F:{port:04X} ", table)) for port in proxied.ports)

    for _ in range(10):
        assert proxied.http.post("/predict", json=ROW).status_code == 200
    before = connections()
    for _ in range(100):
        assert proxied.http.post("/predict", json=ROW).status_code == 200
    assert connections() <= before + 4  # one of each worker of nginx to each gateway


def test_callers_speak_http_2_and_tls(proxied: Proxied) -> None:
    context = ssl.create_default_context(cafile=str(proxied.files.authority))
    context.set_alpn_protocols(["h2"])
    host, port = httpx.URL(proxied.nginx.url).host, httpx.URL(proxied.nginx.url).port
    with socket.create_connection((host, port)) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        assert secure.selected_alpn_protocol() == "h2"
        assert secure.version() == "TLSv1.3"


@pytest.mark.parametrize("size", [4_000_001, 40_000_000])
def test_a_large_body_gets_the_gateways_error(proxied: Proxied, size: int) -> None:
    headers = {"Content-Type": "application/json"}
    through = proxied.http.post("/predict", content=bytes(size), headers=headers)
    direct = proxied.stack.http.post("/predict", content=bytes(size), headers=headers)

    assert (through.status_code, direct.status_code) == (413, 413)
    assert through.headers["Content-Type"] == direct.headers["Content-Type"] == "application/problem+json"
    # Python's releases have other titles for this status.
    assert through.json() | {"title": ""} == direct.json() | {"title": ""}


def test_a_large_body_and_a_large_answer_pass(proxied: Proxied) -> None:
    row = json.dumps(ROW)
    body = f'{{"instances": [{", ".join([row] * 10_000)}]}}'
    padded = body + " " * (4_000_000 - len(body))
    answer = proxied.http.post("/predict", content=padded, headers={"Content-Type": "application/json"})
    assert answer.json()["predictions"] == ["high"] * 10_000


def test_an_answer_may_take_its_time(proxied: Proxied) -> None:
    slow = {"value": 4.0, "act": Act.SLEEP}  # longer than a connection may take
    assert proxied.http.post("/predict", json=slow, params={"deadline": 30}).json()["prediction"] == "high"


def test_the_gateways_errors_pass_unchanged(proxied: Proxied) -> None:
    answer = proxied.http.post("/predict", json={"value": "much"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:headrace:problem:invalid_rows")
    slow = {"value": 2.0, "act": Act.SLEEP}
    late = proxied.http.post("/predict", json=slow, params={"deadline": 0.2})
    assert late.status_code in (503, 504) and late.headers["Retry-After"]
    assert late.json()["type"] != "urn:headrace:problem:gateway_unreachable"


def test_one_address_has_a_limit_of_requests(proxied: Proxied) -> None:
    job = proxied.http.post("/jobs", json={"value": 3.0, "act": Act.SLEEP}).json()["id"]
    with ThreadPoolExecutor(2 * ADDRESS_REQUESTS_MAX) as pool:
        waits = range(2 * ADDRESS_REQUESTS_MAX)
        answers = list(pool.map(lambda _: proxied.http.get(f"/jobs/{job}", params={"wait": 5}), waits))
    refused = [each for each in answers if each.status_code == 429]
    assert {each.status_code for each in answers} == {200, 429}
    assert refused[0].json()["type"] == "urn:headrace:problem:rate_limited"
    assert refused[0].headers["Retry-After"] == "1"


def test_the_client_works_through_it(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxied.files.authority))
    with Client(f"{proxied.nginx.url}/ml") as client:
        assert client.predict(ROW)["prediction"] == "high"
        assert client.submit(ROW).result()["prediction"] == "high"


def test_grpc_through_it(proxied: Proxied) -> None:
    call = {"model": "puppet", "inputs": [tensor("rows", "FP64", [1.0, 0.0], [1, 2])]}
    task = {
        "address": f"127.0.0.1:{proxied.nginx.grpc_port}",
        "authority": str(proxied.files.authority),
        "calls": [call, {**call, "model": "nothing"}],
    }
    command = [sys.executable, "-m", "tests.support.grpc_caller"]
    ran = subprocess.run(
        command, input=json.dumps(task), capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    answered, unknown = json.loads(ran.stdout)
    assert "high" in json.dumps(answered["outputs"])
    assert unknown["code"] == "NOT_FOUND"


@contextmanager
def asking(proxied: Proxied) -> Iterator[Counter[int]]:
    """Let callers ask for what changes nothing; count the statuses. A broken connection counts as 0."""
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def ask() -> None:
        with proxied.client() as client:
            while not over.is_set():
                try:
                    statuses[client.get("/models/puppet").status_code] += 1
                except httpx.TransportError:
                    statuses[0] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    try:
        wait_for("callers", lambda: statuses.total() > 20)
        yield statuses
        asked = statuses.total()
        wait_for("more calls", lambda: statuses.total() > asked + 50)
    finally:
        over.set()
        for each in threads:
            each.join()


@pytest.mark.parametrize("end", [Process.stop, Process.kill])
def test_the_end_of_a_gateway_fails_no_call_that_may_be_sent_again(
    proxied: Proxied, end: Callable[[Process], Any]
) -> None:
    try:
        with asking(proxied) as statuses:
            end(proxied.second)
        assert statuses.keys() == {200}
        # These were not sent to the gateway that is gone.
        for _ in range(20):
            assert proxied.http.post("/predict", json=ROW).status_code == 200
            assert proxied.http.post("/jobs", json=ROW).status_code == 202
    finally:
        proxied.start_second()


def test_without_gateways_callers_get_a_problem(proxied: Proxied) -> None:
    proxied.second.stop()
    proxied.stack.gateway.stop()
    try:
        answer = proxied.http.post("/predict", json=ROW)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:headrace:problem:gateway_unreachable"
    finally:
        proxied.stack.gateway.start()
        proxied.start_second()
    wait_for("both serve", lambda: proxied.http.get("/readyz").status_code == 200)


def test_a_submission_is_sent_once() -> None:
    """A POST that was sent to a gateway which then dies may have made a job."""
    assert not re.search(r"^\s*\w+_next_upstream [^;]*non_idempotent", EXAMPLE, re.MULTILINE)


def test_its_limits_fit_the_gateways() -> None:
    defaults = {name: field.default for name, field in GatewaySettings.model_fields.items()}

    def value(directive: str) -> float:
        found = {float(each) for each in re.findall(rf"^\s*{directive} (\d+)s?;", EXAMPLE, re.MULTILINE)}
        assert found, directive
        return max(found - {0.0})

    assert value("client_max_body_size") == defaults["body_max_bytes"]
    assert value("keepalive_timeout") < defaults["gateway_keep_alive_seconds"]
    assert value("proxy_read_timeout") == value("grpc_read_timeout") > defaults["wait_max_seconds"]
    assert value("client_header_timeout") == defaults["head_receive_seconds"]
    assert value("client_body_timeout") == value("proxy_send_timeout") == defaults["body_receive_seconds"]
    assert value("send_timeout") == defaults["answer_send_seconds"]
