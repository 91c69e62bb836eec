"""docs/two-machines.md, followed in two network namespaces that share nothing but a cable."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scripts.broker import find_server
from tests.compose.clone import code
from tests.support.calls import Calls
from tests.support.dns import Zone, serving
from tests.support.machines import FromMachine, Machine
from tests.support.processes import PATIENCE_SECONDS, REPOSITORY, Process, wait_for
from tests.support.puppet import Act
from tests.support.redis_users import known_to
from tests.support.requirements import require

PAGE = (REPOSITORY / "docs/two-machines.md").read_text("utf-8")
STORE = "/srv/headrace/models"
PACKAGES = ("gateway", "headrace", "shared", "tests", "training", "worker")
WORKERS_ZONE = "\n".join(line for line in code("", PAGE, "Prometheus")[0].splitlines() if "worker" in line)
"""Records of the page; its second gateway is not there."""

ROW = {"value": 1.0, "act": Act.ANSWER}

SETTINGS = {
    "DEFAULT_MODEL": "puppet",
    "TRUSTED_MODULES": "tests.support.puppet",
    "WORKER_CONCURRENCY": "1",
    # Jobs of a lost worker run again after 5 s more.
    "TASK_SOFT_TIME_LIMIT_SECONDS": "4",
    "TASK_TIME_LIMIT_SECONDS": "5",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}

AN_HOUR_AHEAD = {"PYTHONPATH": str(REPOSITORY / "tests/support/shifted_clock"), "CLOCK_SHIFT_SECONDS": "3600"}
"""Environment of programs on a machine whose clock is wrong."""


class Site:
    """A machine with a clone, in which the page's commands are run."""

    def __init__(self, machine: Machine, home: Path) -> None:
        """Make a clone, whose packages are links, and an empty model store."""
        self.machine = machine
        self.home, self.clone = home, home / "headrace"
        self.store = home / "models"
        self.clone.mkdir(parents=True)
        for name in PACKAGES:
            (self.clone / name).symlink_to(REPOSITORY / name)
        for name in ("deploy/two-machines", "monitoring/prometheus"):
            shutil.copytree(REPOSITORY / name, self.clone / name)
        (self.clone / ".venv").symlink_to(sys.prefix)
        self.store.mkdir()
        for each in (self.clone / "deploy/two-machines").glob("*.env"):
            each.write_text(each.read_text().replace(STORE, str(self.store)))
        server = find_server()
        conf = self.clone / "deploy/two-machines/redis.conf"
        conf.write_text(known_to(server, conf.read_text()))
        (home / "bin").mkdir()
        (home / "bin/redis-server").symlink_to(server)
        self.environment = {**SETTINGS, "HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"}

    def sh(self, script: str) -> str:
        """Return the output of a block of the page, run in the clone."""
        ran = subprocess.run(
            self.machine.command("sh", "-ec", script.replace(STORE, str(self.store))),
            cwd=self.clone,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def program(self, name: str, line: str, **environment: str) -> Process:
        """Return the program that a line of the page starts."""
        # The shell becomes the program.
        words = f"exec {line}" if not line.startswith("(") else line.removeprefix("(").removesuffix(")")
        command = self.machine.command("sh", "-c", words)
        return Process(name, command, {**self.environment, **environment}, self.home, folder_to_run_in=self.clone)


class TwoMachines(Calls):
    """Both machines with their programs."""

    def __init__(self, folder: Path, *models: Path) -> None:
        self.near, self.far = Machine("10.0.0.1"), Machine("10.0.0.2")
        self.near.connect(self.far)
        self.gateways, self.workers_site = Site(self.near, folder / "near"), Site(self.far, folder / "far")
        # The example is trained unless it is there; the puppet is a model of one's own.
        for each in models:
            shutil.copytree(each, self.gateways.store, dirs_exist_ok=True)
        transport = FromMachine(self.near)
        self.http = httpx.Client(base_url="http://127.0.0.1:8000", transport=transport, timeout=60, trust_env=False)
        *_, redis, gateway, prometheus = _lines(PAGE, "Plain processes", 1)
        self.redis = self.gateways.program("redis", redis)
        self.gateway = self.gateways.program("gateway", gateway)
        self.prometheus = self.gateways.program("prometheus", prometheus)
        self._give_name_server(self.prometheus, folder / "resolv.conf")
        workers = _lines(PAGE, "Plain processes", 2)
        self.workers = [
            self.workers_site.program(f"worker{number}", line, **AN_HOUR_AHEAD)
            for number, line in enumerate(workers, 1)
        ]

    def _give_name_server(self, program: Process, file: Path) -> None:
        """Let a program ask loopback for names. It gets a mount of its own, for the file that all programs read."""
        file.write_text("nameserver 127.0.0.1\n")
        mount = f"mount --bind {file} /etc/resolv.conf && "
        *enter, shell, option, words = program.command
        program.command = [*enter, "unshare", "--mount", shell, option, mount + words]

    def prepare(self) -> None:
        """Run what the page has before the first program."""
        certificates, handing_over = code("sh", PAGE, "Certificates and passwords")
        self.gateways.sh(certificates)
        _stand_in(self.gateways.home / "bin/ssh", f'shift; cd {self.workers_site.home}; exec sh -c "$*"')
        _stand_in(self.gateways.home / "bin/scp", f'exec cp "$1" {self.workers_site.home}/"${{2#*:}}"')
        self.gateways.sh(handing_over)
        training, copying = code("sh", PAGE, "The model store")
        self.gateways.sh(training)
        self.gateways.sh(re.sub(rf"(?<=-C ){STORE}(?= -x)", str(self.workers_site.store), copying))
        self.gateways.sh(code("sh", PAGE, "Plain processes")[0])

    def start(self) -> "TwoMachines":
        self.prepare()
        for each in (self.redis, self.gateway, self.prometheus, *self.workers):
            each.start()
        self.wait_ready()
        self.wait_for_slots(len(self.workers))
        return self

    def up(self) -> dict[str, float]:
        """Return the targets of Prometheus, and 1 for each that is up."""
        answer = self.http.get("http://127.0.0.1:9090/api/v1/query", params={"query": "up"})
        return {each["metric"]["instance"]: float(each["value"][1]) for each in answer.json()["data"]["result"]}

    def programs(self) -> list[Process]:
        return [*self.workers, self.gateway, self.prometheus, self.redis]

    def logs(self) -> str:
        return "\n".join(f"--- {each.name}\n{each.log()[-4000:]}" for each in self.programs())

    def close(self) -> None:
        self.http.close()
        try:
            for each in self.programs():
                if each.running:
                    each.stop()
        finally:
            self.near.close()
            self.far.close()


def _once(host: str) -> redis.Redis:
    return redis.Redis(host, retry=Retry(NoBackoff(), 0))


def _lines(page: str, chapter: str, block: int) -> list[str]:
    return code("sh", page, chapter)[block].splitlines()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _stand_in(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path, iris_models: Path) -> Iterator[TwoMachines]:
    for program in ("openssl", "curl", "prometheus"):
        require(shutil.which(program) is not None, f"{program} is not installed")
    two = TwoMachines(tmp_path_factory.mktemp("two"), puppet_models, iris_models)
    try:
        with serving(Zone(WORKERS_ZONE), two.near):
            yield two.start()
    finally:
        two.close()


def test_predictions_and_jobs_cross_the_cable(two: TwoMachines) -> None:
    assert two.predict(ROW).json()["prediction"] == "high"
    assert two.outcome(two.submit(ROW))["status"] == "succeeded"


def test_the_checks_of_the_page_succeed(two: TwoMachines) -> None:
    assert '"slots":2' in two.gateways.sh(code("sh", PAGE, "Does it work?")[0])


def test_prometheus_finds_workers_and_gateways_by_files_and_dns(two: TwoMachines) -> None:
    by_files = ["127.0.0.1:8000", "10.0.0.2:9101", "10.0.0.2:9102"]
    by_dns = ["worker-1.headrace.internal:9101", "worker-1.headrace.internal:9102"]
    expected = dict.fromkeys([*by_files, *by_dns, "127.0.0.1:9090"], 1.0)
    wait_for("all targets", lambda: two.up() == expected)


def test_the_store_was_copied_whole(two: TwoMachines) -> None:
    near, far = (_files(each.store) for each in (two.gateways, two.workers_site))
    assert near == far and any("aliases" in name for name in near)


def test_redis_answers_over_tls_alone(two: TwoMachines) -> None:
    assert "Verify return code: 0 (ok)" in two.workers_site.sh(code("sh", PAGE, "Does it work?")[1])
    with two.far.entered(), pytest.raises(redis.ConnectionError), _once("10.0.0.1") as client:
        client.ping()


def test_no_job_is_lost_while_the_cable_is_cut(two: TwoMachines) -> None:
    pids = [each.pid for each in two.programs()]
    jobs = [two.submit({"value": 0.5, "act": Act.SLEEP}) for _ in range(6)]
    two.wait_running(jobs[0])

    two.far.unplug()
    try:
        began = time.monotonic()
        assert two.predict(ROW, params={"deadline": 2}).status_code in (503, 504)
        assert time.monotonic() - began < 3
        wait_for("the workers are missed", lambda: two.http.get("/health").json()["workers"]["slots"] == 0)
        assert two.predict(ROW).json()["type"] == "urn:headrace:problem:no_worker"
        assert two.status("/readyz") == 503
        jobs.append(two.submit(ROW))
    finally:
        two.far.plug()

    two.wait_ready()
    assert two.predict(ROW).json()["prediction"] == "high"
    assert {two.outcome(each)["status"] for each in jobs} == {"succeeded"}
    two.assert_conserved()
    assert [each.pid for each in two.programs() if each.running] == pids


def test_jobs_of_a_killed_worker_run_again(two: TwoMachines) -> None:
    two.wait_for_slots(2)
    jobs = [two.submit({"value": 2, "act": Act.SLEEP}) for _ in range(2)]
    for each in jobs:
        two.wait_running(each)

    two.workers[0].kill()

    assert two.predict(ROW).json()["prediction"] == "high"
    ended = [two.outcome(each) for each in jobs]
    assert {each["status"] for each in ended} == {"succeeded"}
    assert max(each["attempt"] for each in ended) == 2
    two.assert_conserved()
    wait_for("Prometheus misses it", lambda: two.up()["10.0.0.2:9101"] == 0)
    two.workers[0].start()
    two.wait_for_slots(2)
