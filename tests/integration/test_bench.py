"""The bench produces figures. Their values are not tested, because machines differ and have bad minutes."""

import shutil
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from contextlib import closing
from pathlib import Path

import pytest

from bench.open_loop import Generator
from bench.results import Results
from bench.systems import HEADRACE, PLAIN
from tests.support.requirements import require

WITH_LITTLE_LOAD = """
from bench import __main__ as bench, comparison

comparison.CONNECTIONS, comparison.RATES = (64,), (100,)
bench.main()
"""


@pytest.mark.timeout(300)
def test_the_short_mode_measures(tmp_path: Path) -> None:
    require(shutil.which("wrk") is not None, "wrk is not installed")
    # One peer, two of the measures and little load, because all of it takes minutes.
    parts, systems = ["systems", "rows", "cpu"], [HEADRACE, PLAIN]
    command = [sys.executable, "-c", WITH_LITTLE_LOAD, "--short", "--output", str(tmp_path)]
    command += ["--parts", *parts, "--systems", *systems]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    results = Results.read(tmp_path / "results.json")
    assert not results.absent
    for name in systems:
        # A slow machine may not answer within the second that many connections get.
        assert any(run.requests_per_second > 0 for runs in results.closed[name].values() for run in runs)
        assert results.open[name]
        assert results.pss_bytes[name][0] > 10_000_000
    assert {name.partition(".")[0] for name in results.measures} == set(parts[1:])
    assert run.stdout == (tmp_path / "report.md").read_text()
    ElementTree.parse(tmp_path / "latency.svg")


def test_a_stall_counts_for_every_request_that_was_due_in_it() -> None:
    """Check the requests that a closed loop would leave out: while the server stalls for 1 s, 100 requests are due."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve_with_one_stall, args=(server, 1.0), daemon=True).start()
        port = server.getsockname()[1]
        with closing(Generator(f"http://127.0.0.1:{port}/", b"{}", connections=1)) as generator:
            figures = generator.run(rate=100, seconds=3)
    assert figures.errors == 0
    assert figures.p50_seconds < 1
    # The last of the waiting requests is answered at once, the first after 1 s.
    assert figures.p95_seconds > 0.7


def test_a_closed_connection_is_an_error_only_with_a_request_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up_on_the_first, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        with closing(Generator(f"http://127.0.0.1:{port}/", b"{}", connections=1)) as generator:
            figures = generator.run(rate=20, seconds=1)
    assert figures.errors == 1


_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def _serve_with_one_stall(server: socket.socket, seconds: float) -> None:
    connection, _ = server.accept()
    with connection:
        answered = 0
        while connection.recv(65536):
            if answered == 20:
                threading.Event().wait(seconds)
            connection.sendall(_ANSWER)
            answered += 1


def _hang_up_on_the_first(server: socket.socket) -> None:
    first, _ = server.accept()
    first.recv(65536)
    first.close()
    _serve_with_one_stall(server, 0)


def test_figures_are_of_one_run_and_tell_refusals_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_refuse_the_first, args=(server, 5), daemon=True).start()
        port = server.getsockname()[1]
        with closing(Generator(f"http://127.0.0.1:{port}/", b"{}", connections=1)) as generator:
            first, second = generator.run(rate=20, seconds=0.5), generator.run(rate=20, seconds=0.5)
    assert (first.errors, first.rejected) == (5, 5)
    assert first.rejected_p99_seconds > 0
    assert (second.errors, second.rejected, second.rejected_p99_seconds) == (0, 0, 0)


def _refuse_the_first(server: socket.socket, many: int) -> None:
    connection, _ = server.accept()
    with connection:
        while connection.recv(65536):
            status = b"200 OK" if many <= 0 else b"503 Service Unavailable"
            many -= 1
            connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % status)
