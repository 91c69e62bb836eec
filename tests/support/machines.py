"""Machines for tests: network namespaces with a cable between them. They need root."""

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.processes import wait_for
from tests.support.requirements import require

CABLE = "cable"
"""Name of the network device at each end."""

_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A network namespace that lasts as long as the process that holds it, which ends with this one."""

    def __init__(self, address: str) -> None:
        """Make a machine of which nothing but loopback works; `address` is the one that it will have."""
        able = os.geteuid() == 0 and all(map(shutil.which, ("ip", "unshare", "nsenter")))
        require(able, "network namespaces take root, ip (iproute2), unshare and nsenter")
        self.address = address
        self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._namespace = Path(f"/proc/{self._holder.pid}/ns/net")
        here = Path("/proc/self/ns/net").readlink()
        wait_for("a namespace", lambda: self._holder.poll() is not None or self._namespace.readlink() != here)
        require(self._holder.poll() is None, "this system allows no network namespaces")
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words: str) -> list[str]:
        """Return a command as it is run on this machine."""
        return ["nsenter", f"--net={self._namespace}", *words]

    def run(self, *words: str) -> str:
        """Run a command on this machine and return its output.

        Raises:
            AssertionError: if it fails.
        """
        ran = subprocess.run(self.command(*words), capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def connect(self, other: "Machine") -> None:
        """Lay a cable to another machine."""
        peer = ["peer", "name", CABLE, "netns", str(other._holder.pid)]
        self.run("ip", "link", "add", CABLE, "type", "veth", *peer)
        for each in (self, other):
            each.run("ip", "address", "add", f"{each.address}/24", "dev", CABLE)
            each.plug()

    def unplug(self) -> None:
        """Cut the cable: packets of both sides are lost, and connections stay."""
        self.run("ip", "link", "set", CABLE, "down")

    def plug(self) -> None:
        """Mend the cable."""
        self.run("ip", "link", "set", CABLE, "up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let sockets that this thread makes be those of this machine."""
        with (
            Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open() as back,
            self._namespace.open() as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(back.fileno())

    def close(self) -> None:
        """End the machine; its programs have ended before."""
        self._holder.terminate()
        self._holder.communicate()


class FromMachine(httpx.HTTPTransport):
    """A transport of requests that leave a machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, on a connection of the machine."""
        with self._machine.entered():
            return super().handle_request(request)


def _enter(namespace: int) -> None:
    any_kind = 0
    if _libc.setns(namespace, any_kind):
        raise OSError(ctypes.get_errno(), "setns")
