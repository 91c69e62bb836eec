"""Invalid requests: each gets a 4xx problem, and affects no other request."""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.support.stack import Stack

GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
JSON = {"Content-Type": "application/json"}


def with_value(literal: str) -> bytes:
    """Return a row whose first value is this JSON text."""
    return json.dumps({**GOOD, "sepal_length": "VALUE"}).replace('"VALUE"', literal).encode()


BODIES = {
    "NaN": (with_value("NaN"), 422),
    "Infinity": (with_value("Infinity"), 422),
    "-Infinity": (with_value("-Infinity"), 422),
    "1e400": (with_value("1e400"), 422),
    "boolean": (with_value("true"), 422),
    "string": (with_value('"5.1"'), 422),
    "string nan": (with_value('"nan"'), 422),
    "null": (with_value("null"), 422),
    "list": (with_value("[5.1]"), 422),
    "object": (with_value("{}"), 422),
    "5000-digit integer": (with_value("9" * 5000), 400),
    "400-digit integer": (with_value("9" * 400), 422),
    "lone surrogate": (with_value('"\\ud800"'), 400),
    "missing feature": (json.dumps({"sepal_length": 5.1}).encode(), 422),
    "extra feature": (json.dumps({**GOOD, "colour": 1}).encode(), 422),
    "extra feature with a long name": (json.dumps({**GOOD, "x" * 10_000: 1}).encode(), 422),
    "100k unknown names": (json.dumps({f"{at:x}": 1 for at in range(100_000)}).encode(), 422),
    "9k instances of unknown names": (
        json.dumps({"instances": [dict.fromkeys("abcdefgh", 1)] * 9_000}).encode(),
        422,
    ),
    "no instances": (b'{"instances": []}', 422),
    "instances of numbers": (b'{"instances": [1, 2]}', 422),
    "instances and more": (json.dumps({"instances": [GOOD], "more": 1}).encode(), 422),
    "one bad instance": (b'{"instances": [' + json.dumps(GOOD).encode() + b"," + with_value("NaN") + b"]}", 422),
    "too many instances": (json.dumps({"instances": [GOOD] * 10_001}).encode(), 422),
    "a list": (b"[]", 422),
    "a number": (b"1", 422),
    "null body": (b"null", 422),
    "empty": (b"", 400),
    "half an object": (b'{"sepal_length": 5', 400),
    "100k nested arrays": (b"[" * 100_000, 400),
    "100k nested arrays in a row": (with_value("[" * 100_000 + "]" * 100_000), 400),
    "invalid UTF-8": (b'{"\xff\xfe": 1}', 400),
    "NUL byte": (b'{"sepal\x00length": 1}', 400),
    "10 MB": (b" " * 10_000_000, 413),
    "lone surrogate as a name": (json.dumps({**GOOD, "\ud800": 1}).encode(), 400),
    "a number as a name": (b"{NaN: 1}", 400),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), 400),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), 400),
    "two documents": (json.dumps(GOOD).encode() * 2, 400),
    "compressed": (gzip.compress(json.dumps(GOOD).encode()), 400),
}

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
FOLLOWED = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

REQUESTS = {
    "length and chunks": (HEAD + LENGTH + CHUNKED + b"\r\n0\r\n\r\n" + FOLLOWED, 400),
    "two lengths": (HEAD + LENGTH + b"Content-Length: 3\r\n\r\n{} ", 400),
    "an encoding after chunked": (HEAD + b"Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n", 400),
    "a negative length": (HEAD + b"Content-Length: -2\r\n\r\n{}", 400),
    "a signed length": (HEAD + b"Content-Length: +2\r\n\r\n{}", 400),
    "a length in hex": (HEAD + b"Content-Length: 0x2\r\n\r\n{}", 400),
    "a length beyond 64 bits": (HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}", 400),
    "a length beyond 63 bits": (HEAD + b"Content-Length: %d\r\n\r\n{}" % 2**63, 413),
    "a negative chunk": (HEAD + CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk beyond 64 bits": (HEAD + CHUNKED + b"\r\nFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n", 400),
    "NUL in a header": (HEAD + LENGTH + b"Prefer: wait=\x001\r\n\r\n{}", 400),
    "a line break in a header": (HEAD + LENGTH + b"X-A: b\rX-B: c\r\n\r\n{}", 400),
    "a blank in a header's name": (HEAD + LENGTH + b"X A: b\r\n\r\n{}", 400),
    "a folded header": (HEAD + LENGTH + b"X-A: b\r\n c\r\n\r\n{}", 400),
    "two content types": (HEAD + LENGTH + b"Content-Type: text/plain\r\n\r\n{}", 415),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HEAD + LENGTH + b"Host: y\r\n\r\n{}", 400),
    "bytes in the path": (b"GET /jobs/\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an unknown method": (b"BREW /predict HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a tunnel": (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 400),
    "a tunnel with a path": (b"CONNECT /predict HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a tunnel with a body": (b"CONNECT /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a tunnel that upgrades": (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "HTTP/0.9 by name": (b"GET /livez HTTP/0.9\r\n\r\n", 400),
    "HTTP/2.0 as text": (b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 400),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "two hosts in HTTP/1.0": (b"GET /livez HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "chunks in HTTP/1.0": (HEAD.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n" + FOLLOWED, 400),
    "a coding before chunked": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + FOLLOWED, 400),
    "a coding in a line of its own": (HEAD + b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "two codings": (HEAD + CHUNKED * 2 + b"\r\n0\r\n\r\n" + FOLLOWED, 400),
    "a coding in a trailer": (HEAD + CHUNKED + b"\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    "a length in a trailer": (HEAD + CHUNKED + b"\r\n0\r\nContent-Length: 9\r\n\r\n", 400),
    "a close in a trailer": (HEAD + CHUNKED + b"\r\n0\r\nConnection: close\r\n\r\n" + FOLLOWED, 400),
    "a proxy's close in a trailer": (HEAD + CHUNKED + b"\r\n0\r\nProxy-connection: close\r\n\r\n" + FOLLOWED, 400),
    "an upgrade in a trailer": (HEAD + CHUNKED + b"\r\n0\r\nUpgrade: h2c\r\n\r\n" + FOLLOWED, 400),
    "a line feed in a chunk's extension": (HEAD + CHUNKED + b"\r\n2;a=\nb\r\n{}\r\n0\r\n\r\n", 400),
    "lines without carriage returns": (HEAD.replace(b"\r", b"") + b"\n" + FOLLOWED, 400),
    "an upgrade with two lengths": (HEAD + b"Upgrade: h2c\r\n" + LENGTH + LENGTH + b"\r\n{}", 400),
}

GOOD_BODY = json.dumps(GOOD).encode()
PREDICT = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GOOD_LENGTH = b"Content-Length: %d\r\n" % len(GOOD_BODY)
GOOD_CHUNK = b"%x\r\n%b\r\n0\r\n" % (len(GOOD_BODY), GOOD_BODY)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

FRAMED = {
    "h2c with a length": ([PREDICT + H2C + GOOD_LENGTH + b"\r\n" + GOOD_BODY, LAST], [200, 200]),
    "h2c with chunks": ([PREDICT + H2C + CHUNKED + b"\r\n" + GOOD_CHUNK + b"\r\n", LAST], [200, 200]),
    "h2c whose body comes later": ([PREDICT + H2C + GOOD_LENGTH + b"\r\n", GOOD_BODY + LAST], [200, 200]),
    "h2c in HTTP/1.0": ([PREDICT.replace(b"1.1", b"1.0") + H2C + GOOD_LENGTH + b"\r\n" + GOOD_BODY], [200]),
    "a websocket": ([b"GET /livez HTTP/1.1\r\nHost: x\r\n" + WEBSOCKET + b"\r\n", LAST], [200, 200]),
    "many upgrades": ([(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + H2C + b"\r\n") * 400, LAST], [200] * 401),
    "a request in an upgrade's body": (
        [PREDICT + H2C + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, LAST],
        [400, 200],
    ),
    "a request in the body of an unknown upgrade": (
        [PREDICT + b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED), SMUGGLED, LAST],
        [400, 200],
    ),
}
"""Requests whose end only their head tells: what is sent one after the other, and the statuses of the answers."""

TRAILERS = [
    b"Authorization: Bearer x",
    b"Content-Encoding: gzip",
    b"Content-Type: text/plain",
    b"Host: y",
    b"Idempotency-Key: %b" % (b"x" * 1000),
    b"Prefer: respond-async",
    b"X-Request-ID: trailer",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
]

PATHS = {
    "/jobs/%00": 404,
    "/jobs/%ff%fe": 404,
    "/jobs/%zz%": 404,
    "/jobs/" + "x" * 3_000: 422,
    "/jobs/" + "x" * 60_000: 414,
    "/jobs/x?wait=1&wait=%ff": 422,
    "/models/%ed%a0%80": 404,
    "/models/..%2f..%2fetc": 404,
    "/models/%2e%2e": 404,
    "/models/iris/versions/..": 404,
    "//livez": 404,
}


def exchange(stack: Stack, *parts: bytes) -> bytes:
    """Return all that is answered on a connection of its own, until the other side closes it."""
    address = urlsplit(stack.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        # The gateway does not read the rest of a refused request.
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
    return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", received)]


def answers(stack: Stack, request: bytes) -> list[int]:
    """Return the statuses of all answers to a request that is refused."""
    received = exchange(stack, request)
    assert b"content-type: application/problem+json" in received
    return statuses(received)


@pytest.fixture(params=["/predict", "/jobs"])
def path(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


@pytest.fixture(autouse=True)
def still_serving(stack: Stack) -> Iterator[None]:
    yield
    assert stack.predict(GOOD).json()["prediction"] == "setosa"


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_are_4xx_problems(stack: Stack, path: str, name: str) -> None:
    body, status = BODIES[name]
    response = stack.http.post(path, content=body, headers=JSON)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:headrace:problem:")
    assert len(response.content) < 5000, "the input is not echoed"


@pytest.mark.parametrize("name", REQUESTS)
def test_bad_requests_are_4xx_problems(stack: Stack, name: str) -> None:
    request, status = REQUESTS[name]
    assert answers(stack, request) == [status], "and nothing behind it is taken for a request"


@pytest.mark.parametrize("name", FRAMED)
def test_a_body_is_never_read_as_the_next_request(stack: Stack, name: str) -> None:
    parts, expected = FRAMED[name]
    assert statuses(exchange(stack, *parts)) == expected


@pytest.mark.parametrize("trailer", TRAILERS, ids=lambda trailer: trailer.split(b":")[0].decode())
def test_trailers_are_dropped(stack: Stack, trailer: bytes) -> None:
    request = PREDICT + CHUNKED + b"Connection: close\r\n\r\n" + GOOD_CHUNK + trailer + b"\r\n\r\n"
    received = exchange(stack, request)
    assert statuses(received) == [200]
    assert b"x-request-id: trailer" not in received and b"0af7651916cd43dd8448eb211c80319c" not in received


def test_a_trailer_does_not_declare_the_body(stack: Stack) -> None:
    head = PREDICT.replace(b"Content-Type: application/json\r\n", b"") + CHUNKED + b"Connection: close\r\n\r\n"
    request = head + GOOD_CHUNK + b"Content-Type: application/json\r\n\r\n"
    assert answers(stack, request) == [415]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path[:20]} {len(path)}")
def test_bad_paths_are_4xx_problems(stack: Stack, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert answers(stack, request) == [PATHS[path]]


@pytest.mark.parametrize("form", ["%s", '{"instances":[%s]}', '{"instances":[1],"instances":[%s]}'])
def test_of_a_name_that_comes_twice_the_last_counts(stack: Stack, form: str) -> None:
    row = '{"sepal_length":1000,' + json.dumps(GOOD)[1:]
    assert stack.http.post("/predict", content=form % row, headers=JSON).text.count("setosa") == 2


def test_errors_point_at_the_value(stack: Stack) -> None:
    body = b'{"instances": [' + json.dumps(GOOD).encode() + b"," + with_value("true") + b"]}"
    problem = stack.http.post("/predict", content=body, headers=JSON).json()
    assert problem["errors"] == [{"pointer": "/instances/1/sepal_length", "detail": "Input should be a valid number"}]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_another_content_type_is_415(stack: Stack, path: str, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = stack.http.post(path, content=json.dumps(GOOD), headers=headers)
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"


def test_a_charset_is_accepted(stack: Stack) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert stack.http.post("/predict", content=json.dumps(GOOD), headers=headers).status_code == 200


def test_a_chunked_body_is_limited_too(stack: Stack, path: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100_000

    response = stack.http.post(path, content=chunks(), headers=JSON)
    assert response.status_code == 413


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "inf", "soon", ""])
def test_an_unusable_deadline_is_422(stack: Stack, deadline: str) -> None:
    assert stack.predict(GOOD, params={"deadline": deadline}).status_code == 422


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "soon"])
def test_an_unusable_wait_is_422(stack: Stack, wait: str) -> None:
    response = stack.http.get("/jobs/x", params={"wait": wait})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_unknown_paths_and_methods_are_problems_too(stack: Stack) -> None:
    for method, path, status in [("GET", "/nothing", 404), ("GET", "/predict", 405), ("PUT", "/jobs/x", 405)]:
        response = stack.http.request(method, path)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"


def test_a_caller_who_leaves_in_the_middle_of_the_body(stack: Stack) -> None:
    address = urlsplit(stack.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
