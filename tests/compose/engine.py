"""Docker's engine: the one that runs here, or one of the tests' own, which leaves nothing behind."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.compose.debian import Release, unpack
from tests.support.processes import Process, wait_for
from tests.support.requirements import require

SECONDS = 900
"""Seconds for a command of Docker: a build on a busy machine takes minutes."""

PLUGINS_RELEASE = "trixie"
"""Debian's release from which Compose comes if the machine has none; older ones have version 1 only."""

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
LEFT_BY_DOCKER = [Path(path) for path in ("/etc/docker", "/run/docker", "/run/containerd")]


class Engine:
    """An engine that runs, as its command line reaches it."""

    def __init__(self, environment: Mapping[str, str], own: bool) -> None:
        self.environment = {**os.environ, **environment}
        self.own = own

    def run(
        self, command: list[str], folder: Path, check: bool = True, seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that calls Docker in a folder.

        Raises:
            AssertionError: with its output, if it fails and `check` is true.
        """
        ran = subprocess.run(
            command,
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert ran.returncode == 0 or not check, f"{command}\n{ran.stdout}\n{ran.stderr}"
        return ran

    def docker(
        self, *arguments: str, folder: Path = Path("/"), check: bool = True, seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Docker."""
        return self.run(["docker", *arguments], folder, check, seconds)

    def shell(self, script: str, folder: Path) -> str:
        """Return the output of a shell's script."""
        return self.run(["sh", "-ec", script], folder).stdout

    def answers(self) -> bool:
        """Return True once the engine takes commands."""
        return self.docker("version", check=False).returncode == 0


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """Yield the engine of this machine, or one that runs for this block only."""
    require(shutil.which("docker") is not None, "docker is not installed")
    here = Engine({}, own=False)
    if here.answers():
        yield _with_compose(here, folder)
        return
    able = os.geteuid() == 0 and all(map(shutil.which, ("dockerd", "iptables", "ip")))
    require(able, "no Docker engine runs, and to start one takes root, dockerd, iptables and ip")
    options = {
        "host": f"unix://{folder}/docker.sock",
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "pidfile": folder / "pid",
    }
    command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
    daemon = Process("dockerd", command, {**os.environ}, folder)
    engine = Engine({"DOCKER_HOST": str(options["host"])}, own=True)
    with _machine_as_it_was():
        daemon.start()
        try:
            wait_for("the engine answers", lambda: engine.answers() or not daemon.running)
            require(daemon.running, f"dockerd can't run here: {daemon.log()[-2000:]}")
            yield _with_compose(engine, folder)
            engine.shell("docker ps -aq | xargs -r docker rm --force --volumes && docker network prune --force", folder)
        finally:
            daemon.stop()
    shutil.rmtree(folder)


def _with_compose(engine: Engine, folder: Path) -> Engine:
    """Return the engine with version 2 of Compose, which is fetched if there is none."""
    if engine.docker("compose", "version", check=False).returncode == 0:
        return engine
    require(shutil.which("apt-get") is not None, "version 2 of Compose is not installed")
    package = Release(PLUGINS_RELEASE, folder / "plugins").package("docker-compose")
    unpack([package], folder / "unpacked")
    [plugin] = (folder / "unpacked").rglob("cli-plugins/docker-compose")
    (folder / "config/cli-plugins").mkdir(parents=True)
    shutil.copy(plugin, folder / "config/cli-plugins")
    return Engine({**engine.environment, "DOCKER_CONFIG": str(folder / "config")}, engine.own)


@contextmanager
def _machine_as_it_was() -> Iterator[None]:
    """Take back what an engine does to the machine and leaves: a bridge, firewall rules, folders."""
    new = [path for path in LEFT_BY_DOCKER if not path.exists()]
    bridges = _bridges()
    forwarding = FORWARDING.read_text()
    programs = [name for name in ("iptables", "ip6tables") if shutil.which(f"{name}-save")]
    rules = {(name, table): _rules(name, table) for name in programs for table in ("raw", "filter", "nat")}
    try:
        yield
    finally:
        for (name, _), text in rules.items():
            if text:
                subprocess.run([f"{name}-restore"], input=text, text=True, check=True)
        for bridge in _bridges() - bridges:
            subprocess.run(["ip", "link", "delete", bridge], check=True)
        FORWARDING.write_text(forwarding)
        for path in new:
            shutil.rmtree(path, ignore_errors=True)


def _rules(name: str, table: str) -> str:
    """Return the rules of a table as text, empty if the system has no such table."""
    ran = subprocess.run([f"{name}-save", "-t", table], capture_output=True, text=True, check=False)
    return ran.stdout if ran.returncode == 0 else ""


def _bridges() -> set[str]:
    return {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}
