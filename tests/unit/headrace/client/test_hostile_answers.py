"""Answers that no gateway gives: each ends in an exception of the SDK, in bounded time and memory."""

import gzip
import itertools
import json
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import parse_headers
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import Client, ProblemError
from headrace.client import errors
from tests.support.tls import tls_files

ROW = {"x": 1.0}
OK = b"HTTP/1.1 200 OK\r\n"
LONG = "a" * 70_000
DEEP = b"[" * 100_000 + b"]" * 100_000

Call = Callable[[Client], Any]
CALLS: dict[str, Call] = {
    "predict": lambda client: client.predict(ROW),
    "predict several": lambda client: client.predict([ROW]),
    "submit": lambda client: client.submit(ROW),
    "status": lambda client: client.job("j1").status(),
    "view": lambda client: client.job("j1").view(),
    "result": lambda client: client.job("j1").result(timeout=0),
    "jobs": lambda client: list(client.jobs()),
    "models": lambda client: client.models(),
    "model": lambda client: client.model("m"),
    "health": lambda client: client.health(),
}

DOCUMENTS: dict[str, list[bytes]] = {
    "predict": [
        b'{"predictions":[1]}',
        b'{"prediction":1,"timing":3}',
        b'{"prediction":1,"timing":{"total_ms":"long"}}',
    ],
    "predict several": [b'{"prediction":1}', b'{"predictions":null}', b'{"predictions":{"0":1}}'],
    "submit": [
        b'{"id":%s}' % text for text in (b"null", b"7", b'""', b'".."', b'"../predict"', b'"a\\u0000"', b'"%2e"')
    ],
    "view": [b'{"id":"j1"}', b'{"id":"j1","status":"succeeded"}'],
    "status": [b'{"id":"j1","status":%s}' % text for text in (b"null", b'"gone"', b"[]", b'"\\u001b[2J"')],
    "result": [
        b'{"id":"j1","status":"succeeded"}',
        b'{"id":"j1","status":"succeeded","result":[]}',
        b'{"id":"j1","status":"succeeded","result":{}}',
        b'{"id":"j1","status":"failed","error":[1]}',
        b'{"id":"j1","status":"failed","error":{"a":1}}',
        b'{"id":"j1","status":"failed","error":{"code":1,"message":{}}}',
        b'{"id":"j1","status":"failed","error":{"code":"c","message":"m","rows":"all"}}',
    ],
    "jobs": [
        b'{"jobs":null}',
        b'{"jobs":{}}',
        b'{"jobs":[1]}',
        b'{"jobs":[{}]}',
        b'{"jobs":[{"id":"/"}]}',
        b'{"jobs":[],"next":7}',
        b'{"jobs":[],"next":"%s"}' % LONG.encode(),
        b'{"jobs":[%s]}' % b",".join([b'{"id":"j1"}'] * 501),
    ],
    "models": [b'{"models":null}', b'{"models":[1]}', b'{"models":[{"name":1}]}'],
    "model": [b'{"name":"m","version":"v"%s}' % rest for rest in (b"", b',"features":[]', b',"features":[{}]')],
    "health": [b'{"status":503}', b'{"status":"\\u001b[2J"}'],
}
ANYWHERE = [
    b"",
    b"hello",
    b"null",
    b"1",
    b"[]",
    b"{}",
    b'"text"',
    b'{"a":',
    b'{"a":"\xff"}',
    b"NaN",
    b'{"a":%s}' % DEEP,
]


def answering(*answers: httpx.Response) -> Client:
    """Return a client whose server gives these answers in turn, and the last one for ever."""
    turns = itertools.chain(answers, itertools.repeat(answers[-1]))
    return Client("http://gateway", transport=httpx.MockTransport(lambda _: next(turns)), retries=0)


def assert_readable(error: BaseException) -> None:
    assert len(str(error)) <= errors.TEXT_SHOWN + 1
    assert str(error).isprintable()


@pytest.mark.parametrize(("call", "body"), [(call, body) for call in CALLS for body in (*DOCUMENTS[call], *ANYWHERE)])
def test_a_document_of_another_form_is_an_unusable_answer(call: str, body: bytes) -> None:
    with pytest.raises(errors.UnusableAnswer, match=r"^the answer \(200\) is not a gateway's: ") as caught:
        CALLS[call](answering(httpx.Response(200, content=body)))

    assert caught.value.status == 200
    assert_readable(caught.value)


ERRORS = [
    *ANYWHERE,
    b'{"type":{"a":1},"detail":["b"],"errors":"wait"}',
    b'{"type":"\\u001b]0;x\\u0007","detail":"\\u001b[2J\\nTraceback \\u202e","errors":["wait"]}',
    b'{"detail":"%s","errors":null}' % LONG.encode(),
    b'{"detail":{"a":%s}}' % (b"[" * 1000 + b"]" * 1000),
    b'{"errors":[{"parameter":"wait"}]}',
    b'{"errors":[{"parameter":["wait"],"pointer":{},"detail":%s}]}' % (b"[" * 1000 + b"]" * 1000),
    b'{"errors":[%s]}' % b",".join([b"{}"] * 2000),
    b'{"job":[]}',
]
STATUSES = [101, 199, 300, 304, 307, 400, 422, 429, 500, 503, 599, 999]


@pytest.mark.parametrize(
    ("call", "status", "body"),
    [
        *(("result", status, body) for status in (422, 503) for body in ERRORS),
        *((call, status, b"{}") for call in CALLS for status in STATUSES),
    ],
)
def test_an_error_of_any_form_is_a_problem(call: str, status: int, body: bytes) -> None:
    with pytest.raises(ProblemError) as caught:
        CALLS[call](answering(httpx.Response(status, content=body)))

    assert caught.value.status == status
    assert_readable(caught.value)


@pytest.mark.parametrize(
    ("call", "status", "body"),
    [
        *(("result", status, body) for status in (404, 410) for body in (*ERRORS, b'{"type":"about:blank"}')),
        *((call, 404, body) for call in CALLS for body in (b"<html>", b'{"detail":"Not Found"}')),
    ],
)
def test_a_missing_page_of_another_server_is_no_missing_model_or_job(call: str, status: int, body: bytes) -> None:
    with pytest.raises(errors.UnusableAnswer, match=rf"^the answer \({status}\) is not a gateway's: ") as caught:
        CALLS[call](answering(httpx.Response(status, content=body)))

    assert caught.value.status == status
    assert_readable(caught.value)


def test_the_text_of_an_error_says_how_the_answer_begins() -> None:
    with pytest.raises(ProblemError, match=r"^502: an answer without problem details; it begins with '<html>'$"):
        answering(httpx.Response(502, content=b"<html>")).predict(ROW)
    with pytest.raises(errors.UnusableAnswer, match=r"it is no JSON: .*; it begins with '\\x1b\[2J'$"):
        answering(httpx.Response(200, content=b"\x1b[2J")).submit(ROW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("1000000000", 3600.0),
        ("9" * 5000, 3600.0),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("١", None),
        ("Fri, 27 Nov 2026 09:00:00 GMT", None),
        ("", None),
    ],
)
def test_a_pause_is_a_number_of_seconds_up_to_an_hour(text: str, seconds: float | None) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        answering(httpx.Response(503, headers={b"Retry-After": text.encode()})).predict(ROW)

    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    "location",
    ["http://elsewhere/", "//elsewhere", "/", "", "http:]", "http://[::", "http://xn--a", "\x80", LONG, "a\x1b[2Jb"],
)
def test_a_redirect_is_not_followed(location: str) -> None:
    asked: list[httpx.Request] = []

    def redirect(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(307, headers={b"Location": location.encode("latin-1")})

    with pytest.raises(ProblemError) as caught:
        Client("http://gateway", "secret", transport=httpx.MockTransport(redirect)).predict(ROW)

    assert [request.url.host for request in asked] == ["gateway"]
    assert not location or repr(location)[:20] in str(caught.value)
    assert_readable(caught.value)


def test_a_client_keeps_no_cookies() -> None:
    cookies: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return httpx.Response(200, json={"prediction": 1}, headers={"Set-Cookie": "a=b"})

    client = Client("http://gateway", transport=httpx.MockTransport(answer))
    client.predict(ROW)
    client.predict(ROW)

    assert cookies == [None, None]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_change_the_path_is_refused(name: str) -> None:
    client = answering(httpx.Response(500))
    for ask in (
        client.job(name).result,
        client.job(name).delete,
        lambda: client.predict(ROW, model=name),
        lambda: client.submit(ROW, model="m", version=name),
    ):
        with pytest.raises(errors.ClientMisused, match="is no name of a model or version, and no id of a job"):
            ask()


def test_a_request_that_fits_into_no_url_is_refused() -> None:
    with pytest.raises(errors.ClientMisused, match="the request has no URL: URL too long"):
        answering(httpx.Response(500)).predict(ROW, model=LONG)


@pytest.mark.parametrize("cursors", [["1-1"], ["1-1", "1-2", "1-3"]])
@pytest.mark.parametrize("jobs", [[], [{"id": "j1"}]])
def test_a_list_without_end_is_left(cursors: list[str], jobs: list[Any]) -> None:
    pages = (httpx.Response(200, json={"jobs": jobs, "next": each}) for each in itertools.cycle(cursors))
    client = Client("http://gateway", transport=httpx.MockTransport(lambda _: next(pages)))
    listed = client.jobs()

    with pytest.raises(errors.UnusableAnswer, match="the cursor '1-1' comes again, so the list has no end"):
        for _ in range(100):
            next(listed)


def test_pages_without_jobs_take_no_longer_than_a_request() -> None:
    numbers = itertools.count()

    def empty_page(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"jobs": [], "next": f"1-{next(numbers)}"})

    client = Client("http://gateway", timeout=0.2, transport=httpx.MockTransport(empty_page))
    with pytest.raises(errors.GatewayUnreachable, match=r"no further job found within 0\.2 s|no whole answer within"):
        next(client.jobs())


class Pieces(httpx.SyncByteStream):
    """A body in pieces that are made when they are read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


def streaming(pieces: Iterator[bytes], headers: dict[str, str] | None = None, status: int = 200) -> Client:
    answer = httpx.Response(status, headers=headers, stream=Pieces(pieces))
    return Client("http://gateway", transport=httpx.MockTransport(lambda _: answer))


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("size", [1, 5_000])
def test_an_endless_body_is_left(size: int, status: int) -> None:
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        while True:
            read.append(size)
            yield b" " * size

    client = streaming(pieces(), status=status)
    client.response_max_bytes = 20_000

    with pytest.raises(errors.UnusableAnswer, match=r"larger than 20,000 bytes \(response_max_bytes\)"):
        client.predict(ROW)

    assert sum(read) <= 20_000 + size


@pytest.mark.parametrize("piece", [65_536, 1])
def test_a_small_body_that_unpacks_to_a_large_one_is_left(piece: int) -> None:
    bomb = gzip.compress(b'{"prediction":"' + b"x" * 50_000_000 + b'"}')
    pieces = (bomb[start : start + piece] for start in range(0, len(bomb), piece))
    client = streaming(pieces, {"Content-Encoding": "gzip"})
    client.response_max_bytes = 1_000_000

    tracemalloc.start()
    try:
        with pytest.raises(errors.UnusableAnswer, match="larger than 1,000,000 bytes"):
            client.predict(ROW)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_compressed_answer_is_read() -> None:
    packed = gzip.compress(b'{"prediction":1}')
    client = streaming((packed[at : at + 1] for at in range(len(packed))), {"Content-Encoding": "GZIP"})

    assert client.predict(ROW) == {"prediction": 1}


@pytest.mark.parametrize(
    ("coding", "reason"), [("gzip", "not the gzip"), ("br", "coding is 'br'"), ("gzip, gzip", "gz")]
)
def test_a_body_that_is_packed_otherwise_is_unusable(coding: str, reason: str) -> None:
    with pytest.raises(errors.UnusableAnswer, match=reason):
        streaming(iter([b'{"prediction":1}']), {"Content-Encoding": coding}).predict(ROW)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,"])
def test_a_body_of_too_many_values_is_unusable(part: bytes) -> None:
    client = answering(httpx.Response(200, content=b'{"predictions":[%s1]}' % (part * (1_500_000 // len(part)))))
    client.response_max_bytes = 2_000_000

    with pytest.raises(errors.UnusableAnswer, match=r"more than 125,000 values \(response_max_bytes\)"):
        client.predict([ROW])


def test_the_most_rows_of_short_numbers_are_read() -> None:
    row = json.dumps({f"c{label}": 0.0 for label in range(70)}).encode()
    body = b'{"predictions":[%s],"probabilities":[%s]}' % (b",".join([b"1"] * 10_000), b",".join([row] * 10_000))

    assert len(answering(httpx.Response(200, content=body)).predict([ROW])["probabilities"]) == 10_000


@contextmanager
def server(
    handle: Callable[[socket.socket, threading.Event], None], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Run a server on a loopback port; `handle` gets each connection, and an event that is set at the end."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while not ended.is_set():
                connection, _ = listener.accept()
                try:
                    with tls.wrap_socket(connection, server_side=True) if tls else connection as stream:
                        handle(stream, ended)
                except OSError:
                    # The client has left.
                    continue

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join(60)
    assert not thread.is_alive()


def client_of(url: str, **options: Any) -> Client:
    # A transport of its own: a proxy of the environment can't reach this machine.
    return Client(url, transport=httpx.HTTPTransport(), **options)


def dripping(start: bytes, drop: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server that begins to answer and goes on drop by drop."""

    def drip(connection: socket.socket, ended: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(start)
        # Thirty seconds: without the bound the test fails, and does not hang.
        for _ in range(1500):
            if ended.wait(0.02):
                return
            connection.sendall(drop)

    return drip


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b"H"),
        (OK, b"a"),
        (OK + b"a: ", b"b"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Content-Length: 100000\r\n\r\n", b" "),
        (OK + b"\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a"),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"", mtime=0), b"a"),
    ],
)
def test_an_answer_that_drips_for_ever_is_given_up(start: bytes, drop: bytes) -> None:
    with (
        server(dripping(start, drop)) as url,
        client_of(url, timeout=0.3) as client,
        pytest.raises(errors.GatewayUnreachable, match=r"^http://127.0.0.1:[0-9]+: no whole answer within 0\.3 s$"),
    ):
        client.predict(ROW)


def test_an_answer_that_drips_through_tls_is_given_up(tmp_path: Path) -> None:
    files = tls_files(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    transport = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=files.authority))

    with (
        server(dripping(OK, b"a"), context) as url,
        Client(url, timeout=3.0, transport=transport) as client,
        pytest.raises(errors.GatewayUnreachable, match="no whole answer within 3 s"),
    ):
        client.predict(ROW)


def test_answers_before_the_answer_come_to_an_end() -> None:
    def continue_for_ever(connection: socket.socket, ended: threading.Event) -> None:
        connection.recv(65_536)
        for _ in range(20_000):
            if ended.is_set():
                return
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with (
        server(continue_for_ever) as url,
        client_of(url, timeout=0.3) as client,
        pytest.raises(errors.GatewayUnreachable, match="no whole answer within"),
    ):
        client.predict(ROW)


def test_a_server_that_reads_slowly_is_given_up() -> None:
    read = [0]

    def sip(connection: socket.socket, ended: threading.Event) -> None:
        while piece := connection.recv(100_000):
            read.append(len(piece))
            ended.wait(0.02)

    with (
        server(sip) as url,
        client_of(url, timeout=0.5) as client,
        pytest.raises(errors.GatewayUnreachable, match=r"no whole answer within 0\.5 s"),
    ):
        client.predict({"x": "a" * 40_000_000})

    assert sum(read) < 40_000_000, "a request that is given up is not sent to its end"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x1b[2J\r\n\r\n",
        OK[:-2],
        OK + b"Content-Length: 9\r\n\r\n{}",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"a\x00: b\r\n\r\n",
        OK + b"a" * 200_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_what_is_no_http_is_no_answer(answer: bytes) -> None:
    def send(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with (
        server(send) as url,
        client_of(url, timeout=60) as client,
        pytest.raises((errors.GatewayUnreachable, ProblemError)) as caught,
    ):
        client.predict(ROW)

    assert_readable(caught.value)


def test_a_connection_is_used_again_also_by_others() -> None:
    connections: list[socket.socket] = []

    def serve(connection: socket.socket, _: threading.Event) -> None:
        connections.append(connection)
        with connection.makefile("rb") as requests:
            while requests.readline():
                requests.read(int(parse_headers(requests).get("Content-Length", "0")))
                connection.sendall(OK + b'Content-Length: 16\r\n\r\n{"prediction":1}')

    with server(serve) as url, httpx.HTTPTransport(limits=httpx.Limits(keepalive_expiry=None)) as transport:
        client = Client(url, timeout=60, transport=transport)
        assert [client.predict(ROW) for _ in range(2)] == [{"prediction": 1}] * 2
        # A client of httpx' own, whose requests have no end that the bounded stream knows.
        assert httpx.Client(transport=transport, timeout=60).get(url).status_code == 200
        assert len(connections) == 1
