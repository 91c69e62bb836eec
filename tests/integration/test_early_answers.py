"""Answers that leave before the caller has sent its whole body, on real sockets: none is lost to a reset."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.processes import wait_for
from tests.support.stack import Stack

BODY = b" " * 10_000_000
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, iris_models: Path) -> Iterator[Stack]:
    """Start a gateway alone, which refuses bodies that are not JSON, too large, or of unknown callers."""
    folder = tmp_path_factory.mktemp("early")
    stack = Stack(folder, iris_models, GATEWAY_KEEP_ALIVE_SECONDS="1")
    try:
        stack.gateway.start()
        stack.wait_for_gateway()
        yield stack
    finally:
        stack.close()


def by_urllib(url: str, path: str, headers: dict[str, str]) -> int:
    # urllib sends `Connection: close`.
    request = urllib.request.Request(url + path, BODY, headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request, timeout=60)
    assert json.loads(caught.value.read())["status"] == caught.value.code
    return caught.value.code


def by_http_client(url: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("POST", path, BODY, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        assert json.loads(answer.read())["status"] == answer.status
        return answer.status
    finally:
        connection.close()


def by_chunks(url: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        pieces = (BODY[:100_000] for _ in range(100))
        connection.request("POST", path, pieces, {**headers, "Connection": "close"}, encode_chunked=True)
        return connection.getresponse().status
    finally:
        connection.close()


def by_http_1_0(url: str, path: str, headers: dict[str, str]) -> int:
    return _raw(url, f"POST {path} HTTP/1.0\r\nContent-Length: {len(BODY)}\r\n", headers)


def without_a_length(url: str, path: str, headers: dict[str, str]) -> int:
    return _raw(url, f"POST {path} HTTP/1.0\r\n", headers)


def _raw(url: str, head: str, headers: dict[str, str]) -> int:
    with connected(url) as connection:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"{head}{lines}\r\n".encode() + BODY)
        answer = rest(connection)
    return int(answer.split()[1])


def connected(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=60)


def rest(connection: socket.socket) -> bytes:
    """Return everything that is sent until the other side closes; a reset is an error."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


CALLERS = [by_urllib, by_http_client, by_chunks, by_http_1_0]


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/predict", JSON, 413), ("/jobs", {"Content-Type": "text/csv"}, 415), ("/models/none/predict", JSON, 404)],
)
def test_the_answer_arrives_though_the_body_was_not_read(
    gateway: Stack, caller: Callable[..., int], path: str, headers: dict[str, str], status: int
) -> None:
    assert caller(gateway.url, path, headers) == status


def test_a_body_without_a_length_is_no_reset_either(gateway: Stack) -> None:
    assert without_a_length(gateway.url, "/predict", JSON) == 400


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nHost: gateway\r\nX-Long: " + b"x" * 200_000, 431),
    ],
    ids=["version", "no host", "head"],
)
def test_a_refusal_arrives_though_the_caller_goes_on_sending(gateway: Stack, sent: bytes, status: int) -> None:
    with connected(gateway.url) as connection:
        connection.sendall(sent + BODY)
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize("media_type", ["application/json", "text/csv"])
@pytest.mark.parametrize("chunks", [b"1\r\n \r\n" * 1_000_000, b"none\r\n" + BODY], ids=["tiny", "malformed"])
def test_chunks_that_are_refused_get_one_answer(gateway: Stack, media_type: str, chunks: bytes) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n"
    with connected(gateway.url) as connection:
        connection.sendall(f"{head}Content-Type: {media_type}\r\n\r\n".encode() + chunks)
        connection.shutdown(socket.SHUT_WR)
        answer = rest(connection)
    # The answer to a body of another type leaves before or after the chunks are parsed.
    assert int(answer.split()[1]) in (400, 415) and answer.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in gateway.gateway.log()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_that_is_kept_serves_the_next_request(gateway: Stack, chunked: bool) -> None:
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=60)
    try:
        body = (BODY[:100_000] for _ in range(100)) if chunked else BODY
        connection.request("POST", "/predict", body, JSON, encode_chunked=chunked)
        refused = connection.getresponse()
        assert (refused.status, refused.read() != b"") == (413, True)
        kept = connection.sock
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        assert kept is not None and connection.sock is kept
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/models", "/docs", "/jobs/none", "/nothing"])
def test_head_has_the_headers_of_get_and_no_body(gateway: Stack, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=60)
    try:
        for _ in range(2):
            # A body would be taken for the answer to the second request.
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert answer.status == {"/jobs/none": 503, "/nothing": 404}.get(path, 200)
            assert int(answer.headers["Content-Length"]) > 0 and answer.headers["X-Request-Id"]
            assert answer.read() == b""
    finally:
        connection.close()


def test_who_asks_before_sending_is_refused_without_sending(gateway: Stack) -> None:
    with connected(gateway.url) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 10000000\r\n\r\n"
        )
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer and b"100 Continue" not in answer


def test_a_caller_that_never_stops_sending_is_cut_off(gateway: Stack) -> None:
    with connected(gateway.url) as connection:
        connection.sendall(b"POST /predict HTTP/1.0\r\nContent-Type: text/csv\r\nContent-Length: 1000000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(100):
                connection.sendall(BODY)
    wait_for("the gateway serves", lambda: gateway.status("/livez") == 200)


def test_an_idle_connection_lives_for_its_time(gateway: Stack) -> None:
    with connected(gateway.url) as connection:
        # An early answer needs the same: uvicorn would forget to end, or end too soon, a connection after that.
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: gateway\r\nContent-Length: 3\r\n\r\n1")
        assert connection.recv(65536).startswith(b"HTTP/1.1 415")
        connection.sendall(b"23")
        started = time.monotonic()
        assert connection.recv(65536) == b""
        assert time.monotonic() - started > 0.9
