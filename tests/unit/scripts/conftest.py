"""Small fake programs and servers."""

import asyncio
import http.server
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

DEADLINE_SECONDS = 20.0

FAKE = """
import signal, sys
name, log, behaviour = sys.argv[1:]
up_before = behaviour == "dies once" and f"{name} up" in open(log).read()
def write(word):
    with open(log, "a") as file:
        file.write(f"{name} {word}\\n")
def end(*_):
    write("down")
    if behaviour != "stubborn":
        raise SystemExit(0)
signal.signal(signal.SIGTERM, end)
write("up")
if behaviour == "dies" or behaviour == "dies once" and not up_before:
    raise SystemExit(3)
while True:
    signal.pause()
"""


@dataclass
class Fakes:
    """Commands of programs that write into one log when they start and when a signal ends them."""

    folder: Path

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def command(self, name: str, behaviour: str = "") -> str:
        return shlex.join([sys.executable, "-c", FAKE, name, str(self.folder / "log"), behaviour])

    def logged(self, line: str, times: int = 1) -> Callable[[], "asyncio.Future[None]"]:
        """Return a coroutine function that waits for a line of the log."""

        async def wait() -> None:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while self.log.count(line) < times:
                assert time.monotonic() < deadline, f"no {line!r} in {self.log}"
                await asyncio.sleep(0.01)

        return lambda: asyncio.ensure_future(wait())


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Restore the signal handlers that the code under test sets."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def guarded_redis() -> Iterator[int]:
    """The port of a fake Redis that needs a password."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                connection, _ = server.accept()
                with connection:
                    while connection.recv(4096):
                        connection.sendall(b"-NOAUTH Authentication required.\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        port = int(server.getsockname()[1])
        yield port
        ended.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@dataclass
class Answer:
    """The answer of the fake gateway, and the request that it got."""

    port: int
    status: int = 200
    body: bytes = b"{}"
    asked: bytes = b""


@pytest.fixture
def fake_gateway() -> Iterator[Answer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.body)

        def do_POST(self) -> None:
            answer.asked = self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answer = Answer(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield answer
        server.shutdown()
        thread.join()
