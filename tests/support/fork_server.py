"""Programs of the project, forked from a process that has imported their modules already.

To import scikit-learn, pandas and FastAPI takes three of the four CPU seconds that a stack costs otherwise, and a run
of all tests starts a few hundred programs. Imports only define things, which a test of the architecture holds. A forked
program has its own session, environment and output.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from prometheus_client import values

REPOSITORY = Path(__file__).parents[2]

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
"""Variables that the libraries and Python read when they start."""

MODULES = (
    "celery.app.amqp", "celery.apps.worker", "celery.bin.celery", "celery.concurrency.prefork",
    "celery.worker.components", "celery.worker.consumer", "celery.worker.pidbox", "cffi.cparser", "fastapi",
    "gateway.app", "httptools", "joblib", "kombu.transport.redis", "orjson", "pandas", "pydantic_settings",
    "redis.asyncio", "sklearn.ensemble", "sklearn.linear_model", "skops.io", "threadpoolctl",
    "uvicorn.protocols.http.httptools_impl", "uvloop", "worker.app",
)  # fmt: skip

MESSAGE_MAX_BYTES = 65_536


class Forked:
    """A program that a `ForkServer` has started, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the program runs."""
        return self._server.exit_code(self.pid)

    def wait(self, timeout: float) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            TimeoutExpired: if the program still runs after so many seconds.
        """
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return code


class ForkServer:
    """The process that forks programs. It ends with the process that has made it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._exit_codes: dict[int, int] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=REPOSITORY,
                env={**os.environ, **ENVIRONMENT},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, module: str, environment: Mapping[str, str], output: int) -> Forked:
        """Start `python -m module` with this environment and file descriptor of its output.

        Raises:
            OSError: if the server has ended.
        """
        request = json.dumps({"module": module, "environment": dict(environment)}).encode()
        with self._lock:
            socket.send_fds(self._socket, [request], [output])
            while True:
                message = self._receive()
                if "started" in message:
                    self._exit_codes.pop(message["started"], None)
                    return Forked(self, message["started"])

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a program; None while it runs."""
        with self._lock:
            self._socket.setblocking(False)
            try:
                while True:
                    self._receive()
            except BlockingIOError:
                pass
            finally:
                self._socket.setblocking(True)
            return self._exit_codes.get(pid)

    def _receive(self) -> dict[str, int]:
        content = self._socket.recv(MESSAGE_MAX_BYTES)
        if not content:
            raise OSError("the fork server has ended")
        message: dict[str, int] = json.loads(content)
        if "ended" in message:
            self._exit_codes[message["ended"]] = message["exit_code"]
        return message

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait(10)


@functools.cache
def fork_server() -> ForkServer:
    """Return the fork server of this process."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def serve(connection: socket.socket) -> None:
    """Fork a program for each request, until the other side closes the connection; only in a program, return."""

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            connection.send(json.dumps({"ended": pid, "exit_code": os.waitstatus_to_exitcode(status)}).encode())

    signal.signal(signal.SIGCHLD, reap)
    while True:
        content, [*files], _, _ = socket.recv_fds(connection, MESSAGE_MAX_BYTES, 1)
        if not content:
            sys.exit()
        # The other side hears of a program's start before its end.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            connection.close()
            run(**json.loads(content), output=files[0])
        connection.send(json.dumps({"started": pid}).encode())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        os.close(files[0])


def run(module: str, environment: dict[str, str], output: int) -> NoReturn:
    """Become `python -m module`, in a session of its own."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    if folders := environment.get("PYTHONPATH"):
        sys.path[1:1] = folders.split(os.pathsep)
        sys.modules.pop("sitecustomize", None)
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("sitecustomize")
    become([sys.executable, "-m", module], environment)


def become(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Run a module by name in the place of what runs, as `os.execve` would."""
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    # prometheus-client asks at its import where the process's metrics are.
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    gc.enable()
    os.execve = lambda _, command, environment: become(command, environment)  # type: ignore[assignment,arg-type]
    sys.argv = [command[-1]]
    runpy.run_module(command[-1], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    gc.disable()
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
