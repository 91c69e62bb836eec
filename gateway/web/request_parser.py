"""Parsing of HTTP/1 requests: no upgrades, and no framing that a proxy in front could read in another way."""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.edge.headers import HeaderPairs
from gateway.problems import CONTENT_TYPE, Problem

_SINGLE = frozenset((b"host", b"authorization", b"idempotency-key"))
"""Headers that a request may have once: of two, a proxy in front may have used the other one."""

_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
"""Form of `Host`: the characters of names and addresses (RFC 3986, section 3.2.2), and a port's colon."""

CONNECTION_HEADERS = {b"connection", b"proxy-connection", b"upgrade"}
"""Headers by which the parser decides whether the connection goes on as HTTP/1.1."""

HEADERS_MAX = 200
"""Headers of a request at most: each costs the code that reads them more than the parser."""

HEAD_MAX_BYTES = 65_536
"""Bytes of URL and headers at most; also those between the first slice and the end of a head, and of trailers."""

URL_MAX_BYTES = 4096
"""Bytes of a URL at most: those of the API are shorter than a tenth, and each route is compared with the path."""

CHUNK_BYTES = 32
"""Bytes per chunk of a body at least, on average and with its size and line breaks: each chunk costs a call or two."""

SMALL_CHUNKS_MAX = 4096
"""Chunks beyond these that a body may have: some clients send each token of a JSON document as a chunk."""

SLICE_BYTES = 4096
"""Bytes of a connection that are parsed before another one has its turn; 700 chunks of one byte take 0.1 ms."""

TURN_SECONDS = 0.002
"""Time for all connections with more than that to be parsed, in each turn of the event loop."""


class Incoming(Enum):
    """The part of a request that a connection receives."""

    HEAD = "head"
    """Request line and headers; also before the first request."""

    BODY = "body"
    """The body of a request that is not answered yet."""

    DISCARDED_BODY = "discarded body"
    """The rest of a body whose request was answered without it."""

    NOTHING = "nothing"
    """No part: the last request is complete."""


class Parsed(Protocol):
    """A connection whose requests are parsed: the parser calls its `on_…` methods."""

    parser: httptools.HttpRequestParser
    url: bytes
    headers: list[tuple[bytes, bytes]]
    """The headers of the request that was parsed last, names in lower case."""


class ReadTurns:
    """Turns of a process's connections at being parsed, a slice each, so that none takes the event loop for long.

    A read is up to 256 KB, and libuv reads 32 times before the next connection has its turn. Chunks, headers and
    requests may be a few bytes each, and cost about a microsecond or ten. libuv accepts one connection in each turn of
    the event loop, so a turn must be short however many connections send.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def ask(self, step: Callable[[], None]) -> None:
        """Call a step of a connection when its turn has come."""
        self._waiting.append(step)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        until = time.perf_counter() + TURN_SECONDS
        try:
            while self._waiting:
                self._waiting.popleft()()
                if time.perf_counter() >= until:
                    break
        finally:
            self._schedule()


class Reads:
    """The large reads of a connection: each is parsed in slices, and the next one is read when it is parsed."""

    def __init__(
        self,
        turns: ReadTurns,
        transport: asyncio.Transport,
        parse: Callable[[memoryview], None],
        may_parse: Callable[[], bool],
    ) -> None:
        """Connect the parts of a connection.

        Args:
            turns: the turns of the process.
            transport: the connection.
            parse: parses a slice of what has arrived.
            may_parse: returns True if more may be parsed now. If it returns False, parsing waits for `resume`.
        """
        self._turns = turns
        self._transport = transport
        self._parse = parse
        self._may_parse = may_parse
        self._unparsed = memoryview(b"")
        self._waits = False

    def begin(self, data: bytes) -> None:
        """Parse what has arrived, in turns, and read no more until then."""
        self._transport.pause_reading()
        self._unparsed = memoryview(data)
        self.resume()

    def resume(self) -> None:
        """Parse and read again when it is the connection's turn."""
        if not self._waits:
            self._waits = True
            self._turns.ask(self._go_on)

    def _go_on(self) -> None:
        self._waits = False
        if not self._may_parse():
            return
        if not self._unparsed:
            self._transport.resume_reading()
            return
        data, self._unparsed = self._unparsed[:SLICE_BYTES], self._unparsed[SLICE_BYTES:]
        self._parse(data)
        self.resume()


def parse(connection: Parsed, data: bytes | memoryview) -> None:
    """Feed the parser of a connection.

    The parser stops behind a head that asks for another protocol, and leaves the body unread. A server may ignore such
    a request (RFC 9110, section 7.8), but not its body, or the body would be read as the next request. Therefore the
    head is parsed again by a new parser, without its `Upgrade`, and then the rest.

    Raises:
        httptools.HttpParserError: if the data is no HTTP/1, or an `on_…` method raised an exception.
    """
    rest = memoryview(data)
    while rest:
        try:
            connection.parser.feed_data(rest)
            return
        except httptools.HttpParserUpgrade as upgrade:
            rest = rest[upgrade.args[0] :]
            head = _without_upgrade(connection)
            connection.parser = httptools.HttpRequestParser(connection)
            # uvicorn sets the same: a request behind the last one of its connection is ignored, and no error.
            connection.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            connection.parser.feed_data(head)


def will_be_parsed_again(parser: httptools.HttpRequestParser) -> bool:
    """Return True if a head asks for another protocol.

    Raises:
        ValueError: if it asks for a tunnel (CONNECT), which has no other form. The parser stops with an error.
    """
    if parser.get_method() == b"CONNECT":
        raise ValueError("a tunnel")
    upgrade: bool = parser.should_upgrade()
    return upgrade


def check_head(version: str, url: bytes, headers: HeaderPairs) -> None:
    """Check what the parser does not check.

    Raises:
        ValueError: if the version is neither 1.1 nor 1.0, `Host` is missing or malformed (RFC 9112, section 3.2), a
            header comes twice of which there may be one, or the body has a transfer coding besides chunked, which the
            parser would ignore, or any in HTTP/1.0, which has none (section 6.1).
        Problem: 414 if the URL is too long, 431 if the head is.
    """
    seen: set[bytes] = set()
    codings = n_bytes = 0
    for name, value in headers:
        # With the colon, the space and the end of the line.
        n_bytes += len(name) + len(value) + 4
        if name in _SINGLE:
            if name in seen:
                raise ValueError(f"two headers {name.decode()}")
            seen.add(name)
            if name == b"host" and not _is_host(value):
                raise ValueError("a malformed host")
        elif name == b"transfer-encoding":
            codings += 1 if version == "1.1" and value.lower() == b"chunked" else 2
    _check_sizes(len(url), n_bytes)
    if version not in ("1.0", "1.1"):
        raise ValueError(f"HTTP/{version}")
    if version == "1.1" and b"host" not in seen:
        raise ValueError("no host")
    if codings > 1:
        raise ValueError("a transfer coding other than chunked")


def _check_sizes(url_bytes: int, header_bytes: int) -> None:
    if url_bytes > URL_MAX_BYTES:
        raise Problem(414, "url_too_long", f"the URL is longer than {URL_MAX_BYTES} bytes")
    if url_bytes + header_bytes > HEAD_MAX_BYTES:
        raise head_too_large()


def reason_of(error: httptools.HttpParserError) -> Problem:
    """Return the problem that an `on_…` method raised, or else the one of data that is no HTTP/1."""
    reason = error.__context__
    return reason if isinstance(reason, Problem) else Problem(400, "invalid_http", "this is not HTTP/1.1")


def too_many_headers() -> Problem:
    """Return the refusal of a head with more than `HEADERS_MAX` headers."""
    return Problem(431, "head_too_large", f"the request has more than {HEADERS_MAX} headers")


def head_too_large() -> Problem:
    """Return the refusal of a head, or trailers, of more than `HEAD_MAX_BYTES`."""
    return Problem(431, "head_too_large", f"request line and headers are larger than {HEAD_MAX_BYTES} bytes")


def check_trailer(name: bytes) -> None:
    """Check that a trailer says nothing of the connection.

    The parser obeys it although nothing else does: after `Connection: close` it would swallow the next request.

    Raises:
        Problem: 400 if it does (RFC 9110, section 6.5.1).
    """
    if name.lower() in CONNECTION_HEADERS:
        raise Problem(400, "invalid_http", "a trailer of the body speaks of the connection")


def too_many_chunks() -> Problem:
    """Return the refusal of a body whose chunks, or trailers, are too many for its bytes."""
    return Problem(400, "too_many_chunks", f"the body has too many chunks of less than {CHUNK_BYTES} bytes")


def refusal(problem: Problem) -> bytes:
    """Return a complete response with a problem, the last one of its connection."""
    body = problem.body()
    headers = {
        "content-type": CONTENT_TYPE,
        "content-length": str(len(body)),
        "connection": "close",
        **problem.headers,
    }
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    return STATUS_LINE[problem.status] + lines + b"\r\n" + body


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _without_upgrade(connection: Parsed) -> bytes:
    parser = connection.parser
    headers = b"".join(b"%b: %b\r\n" % header for header in connection.headers if header[0] != b"upgrade")
    version = parser.get_http_version().encode()
    return b"%b %b HTTP/%b\r\n%b\r\n" % (parser.get_method(), connection.url, version, headers)
