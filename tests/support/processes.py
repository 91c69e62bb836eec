"""Real processes for tests: started on free ports, stopped by signal, and ended with their children."""

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from tests.support.fork_server import ENVIRONMENT, Forked, fork_server
from tests.support.fork_server import REPOSITORY as REPOSITORY

Found = TypeVar("Found")


PORTS = range(10_000, 28_000)
"""Ports for tests: none that the system gives to outgoing connections.

Until a program listens on such a port, the system may give it to another one; and a client that asks for it again and
again is connected to itself once in 28,000 times, and takes what it has sent for the answer.
"""

_chance = random.SystemRandom()
_reservations = contextlib.ExitStack()
atexit.register(_reservations.close)


def free_port() -> int:
    """Return a free TCP port on loopback that no other process of tests uses, for as long as this one runs."""
    while True:
        port = _chance.choice(PORTS)
        # The UDP port of the same number stands for it.
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                _reservations.enter_context(reservation)
                return port
        except OSError:
            reservation.close()


PATIENCE_SECONDS = 60.0
"""Seconds that a test waits for an event before it fails.

The time is generous, because everything takes longer on a busy machine, and a passing test never waits for it. A bound
that a test is about is measured and asserted, not waited for.
"""


def wait_for(what: str, probe: Callable[[], Found | None], seconds: float = PATIENCE_SECONDS) -> Found:
    """Return the first true value of `probe`, which is polled.

    Raises:
        AssertionError: if there is none within so many seconds.
    """
    began = time.monotonic()
    while True:
        found = probe()
        if found:
            return found
        now = time.monotonic()
        if now > began + seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        # Probes of what takes long would take the processor from it.
        time.sleep(min(max(0.01, (now - began) / 20), 0.1))


def pause(seconds: float) -> None:
    """Let time pass, for tests that are about time itself."""
    until = time.monotonic() + seconds
    wait_for("the pause is over", lambda: time.monotonic() >= until, seconds + 5)


def hold_for(seconds: float, probe: Callable[[], bool]) -> None:
    """Check again and again, for so many seconds, that a probe is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert probe()
        pause(0.1)


class Process:
    """A program of the stack. Its output is kept for failing tests."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        folder: Path,
        folder_to_run_in: Path = REPOSITORY,
    ) -> None:
        self.name = name
        self.command = command
        # A killed process leaves its temporary files behind, in the test's folder.
        self.environment = {**_clean_environment(), "TMPDIR": str(folder), **environment}
        self._folder_to_run_in = folder_to_run_in
        self._log_path = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def start(self) -> None:
        """Start the program, also again after a stop."""
        assert not self.running, f"{self.name} runs already"
        with self._log_path.open("ab") as log:
            if self._can_be_forked():
                self._process = fork_server().start(self.command[-1], self.environment, log.fileno())
                return
            # A group of its own: the children of a killed parent can be found and ended with it.
            self._process = subprocess.Popen(
                self.command,
                cwd=self._folder_to_run_in,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _can_be_forked(self) -> bool:
        """Return True for a program of the project, unless Python or a library would have to start in another way."""
        program, *options = self.command
        read_at_start = ("PYTHON", "LD_", "OMP_", "OPENBLAS_", "OTEL_", "CLOCK_")
        variables = {name: value for name, value in self.environment.items() if name.startswith(read_at_start)}
        variables.pop("PYTHONPATH", None)
        ours = program == sys.executable and options[:-1] == ["-m"] and self._folder_to_run_in == REPOSITORY
        return ours and variables.items() <= ENVIRONMENT.items()

    @property
    def running(self) -> bool:
        """True if the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def children(self) -> list[int]:
        """Process ids of the direct children."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self.pid, number)

    def stop(self, seconds: float = 30.0) -> int:
        """Send SIGTERM and wait; return the exit code. Kill whatever remains of the group."""
        assert self._process is not None
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the process and its children, as when a machine is lost."""
        assert self._process is not None
        # A process that has just been forked may have no group of its own yet, and no children.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)

    def log(self) -> str:
        """Return the output so far."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""


def python(module: str) -> list[str]:
    """Return the command that runs a module of the project."""
    return [sys.executable, "-m", module]


def _clean_environment() -> dict[str, str]:
    """Return this process's environment without variables that would configure the project."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ}
