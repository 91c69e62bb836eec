"""Parsing of HTTP/1 requests: no upgrades, and no framing that a proxy in front could read in another way."""

import re
from functools import lru_cache
from typing import Protocol

import httptools

from gateway.web.request_context import HeaderPairs

_SINGLE = frozenset((b"host", b"authorization", b"idempotency-key"))
"""Headers that a request may have once: of two, a proxy in front may have used the other one."""

_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
"""Form of `Host`: the characters of names and addresses (RFC 3986, section 3.2.2), and a port's colon."""


class Parsed(Protocol):
    """A connection whose requests are parsed: the parser calls its `on_…` methods."""

    parser: httptools.HttpRequestParser
    url: bytes
    headers: list[tuple[bytes, bytes]]
    """The headers of the request that was parsed last, names in lower case."""


def parse(connection: Parsed, data: bytes) -> None:
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


def check_head(version: str, headers: HeaderPairs) -> None:
    """Check what the parser does not check.

    Raises:
        ValueError: if the version is neither 1.1 nor 1.0, `Host` is missing or malformed (RFC 9112, section 3.2), a
            header comes twice of which there may be one, or the body has a transfer coding besides chunked, which the
            parser would ignore, or any in HTTP/1.0, which has none (section 6.1).
    """
    seen: set[bytes] = set()
    codings = 0
    for name, value in headers:
        if name in _SINGLE:
            if name in seen:
                raise ValueError(f"two headers {name.decode()}")
            seen.add(name)
            if name == b"host" and not _is_host(value):
                raise ValueError("a malformed host")
        elif name == b"transfer-encoding":
            codings += 1 if version == "1.1" and value.lower() == b"chunked" else 2
    if version not in ("1.0", "1.1"):
        raise ValueError(f"HTTP/{version}")
    if version == "1.1" and b"host" not in seen:
        raise ValueError("no host")
    if codings > 1:
        raise ValueError("a transfer coding other than chunked")


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _without_upgrade(connection: Parsed) -> bytes:
    parser = connection.parser
    headers = b"".join(b"%b: %b\r\n" % header for header in connection.headers if header[0] != b"upgrade")
    version = parser.get_http_version().encode()
    return b"%b %b HTTP/%b\r\n%b\r\n" % (parser.get_method(), connection.url, version, headers)
