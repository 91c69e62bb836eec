"""Slow callers on real sockets: each is cut off by its deadline, and no other caller notices."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.stack import Stack

LIMIT_SECONDS = 0.2
CUT_OFF_SECONDS = LIMIT_SECONDS + 10
"""The limit in seconds, the interval of the inspection, and a margin for a busy machine."""

CONNECTIONS_MAX = 40
HEAD = b"POST /predict HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, iris_models: Path) -> Iterator[Stack]:
    """Start a gateway alone, which is all that these callers need."""
    stack = Stack(
        tmp_path_factory.mktemp("slow"),
        iris_models,
        HEAD_RECEIVE_SECONDS=str(LIMIT_SECONDS),
        BODY_RECEIVE_SECONDS=str(LIMIT_SECONDS),
        ANSWER_SEND_SECONDS=str(LIMIT_SECONDS),
        CONNECTIONS_MAX=str(CONNECTIONS_MAX),
    )
    try:
        stack.gateway.start()
        stack.wait_for_gateway()
        yield stack
    finally:
        stack.close()


@contextmanager
def connected(gateway: Stack) -> Iterator[socket.socket]:
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=CUT_OFF_SECONDS) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """Return everything that is still sent until the other side closes."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    content: dict[str, Any] = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {content['status']} ".encode())
    return content


def trickle(connection: socket.socket, piece: bytes) -> float:
    """Send a piece again and again until the other side closes; return the seconds until then."""
    started = time.monotonic()
    connection.settimeout(0.05)
    while time.monotonic() - started < CUT_OFF_SECONDS:
        try:
            connection.sendall(piece)
            # The gateway has answered or closed.
            connection.recv(1, socket.MSG_PEEK)
            break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    connection.settimeout(CUT_OFF_SECONDS)
    return time.monotonic() - started


def test_nothing_at_all(gateway: Stack) -> None:
    with connected(gateway) as connection:
        assert rest(connection) == b""


@pytest.mark.parametrize("begun", [b"P", HEAD, HEAD + b"X-A"], ids=["one byte", "half", "in a header"])
def test_headers_that_do_not_end(gateway: Stack, begun: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(begun)
        assert problem(rest(connection))["status"] == 408


def test_headers_that_trickle(gateway: Stack) -> None:
    with connected(gateway) as connection:
        connection.sendall(HEAD)
        assert trickle(connection, b"X-Slow: 1\r\n") < CUT_OFF_SECONDS


@pytest.mark.parametrize(
    "begun",
    [b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"],
    ids=["length", "chunked"],
)
def test_a_body_that_does_not_end(gateway: Stack, begun: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(HEAD + begun)
        assert problem(rest(connection))["status"] == 408


def test_a_body_that_trickles(gateway: Stack) -> None:
    with connected(gateway) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n{")
        assert trickle(connection, b" ") < CUT_OFF_SECONDS


def test_line_breaks_instead_of_a_request(gateway: Stack) -> None:
    with connected(gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert trickle(connection, b"\r\n") < CUT_OFF_SECONDS


def test_an_answer_that_nobody_takes(gateway: Stack) -> None:
    with connected(gateway) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Many answers in a row, none of which is read: more than the buffers of two sockets hold.
        request = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n"
        connection.settimeout(0.05)

        def closed() -> bool:
            try:
                connection.sendall(request * 50)
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            return False

        wait_for("it is cut off", closed)
    assert "Traceback" not in gateway.gateway.log()


@pytest.mark.parametrize(
    "begun", [HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"], ids=["in the head", "behind a body"]
)
def test_headers_without_end(gateway: Stack, begun: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(begun)
        try:
            for _ in range(1000):
                connection.sendall(b"X-Long: " + b"x" * 1000 + b"\r\n")
        except ConnectionError:
            pass
        answer = rest(connection)
    # Even if the answer was lost behind the bytes that were still being sent, the connection was cut off.
    assert not answer or problem(answer)["status"] == 431


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100]
)
def test_what_is_no_http_gets_a_problem(gateway: Stack, sent: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(sent)
        content = problem(rest(connection))
    assert (content["status"], content["type"]) == (400, "urn:headrace:problem:invalid_http")


def test_others_are_served_meanwhile_and_the_slow_ones_are_counted(gateway: Stack) -> None:
    before = slow_clients(gateway)
    waiting = [socket.create_connection(address(gateway)) for _ in range(CONNECTIONS_MAX // 2)]
    try:
        for connection in waiting:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        for _ in range(20):
            assert gateway.status("/livez") == 200
        wait_for("all are cut off", lambda: slow_clients(gateway) >= before + len(waiting))
    finally:
        for connection in waiting:
            connection.close()


def test_one_connection_too_many_gets_503(gateway: Stack) -> None:
    held: list[socket.socket] = []
    try:
        # Clients of other tests count too.
        for _ in range(CONNECTIONS_MAX):
            held.append(socket.create_connection(address(gateway), timeout=CUT_OFF_SECONDS))
            held[-1].sendall(HEAD)
        with connected(gateway) as connection:
            content = problem(rest(connection))
        assert (content["status"], content["type"]) == (503, "urn:headrace:problem:connections_full")
    finally:
        for connection in held:
            connection.close()
    wait_for("there is room again", lambda: gateway.status("/livez") == 200)


def address(gateway: Stack) -> tuple[str, int]:
    parts = urlsplit(gateway.url)
    return parts.hostname or "", parts.port or 0


def slow_clients(gateway: Stack) -> float:
    return Scrape(f"{gateway.url}/metrics").total("inference_rejections_total", reason="slow_client")


def test_a_refused_body_is_not_held_against_the_next_request(gateway: Stack) -> None:
    """Check that callers can use a connection again on which they went on sending after a refusal."""
    with connected(gateway) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000000\r\n\r\n" + b" " * 5_000_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n")
        connection.sendall(b"[]")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422")
